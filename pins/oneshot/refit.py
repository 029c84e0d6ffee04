"""The best weights of a given mask: the least squares of each row over its kept inputs."""

import torch
from torch import Tensor

from pins.oneshot.layer import Layer, damped
from pins.oneshot.shared_rows import by_rows

DAMPING = 0.01  # of the mean diagonal
# numbers in one batch of systems: they stay in a processor's cache; on a device 1 GB of float64
ROOM, DEVICE_ROOM = 1 << 18, 1 << 27


def refit(layer: Layer, mask: Tensor, damping: float = DAMPING) -> Tensor:
    """argmin of tr((W − W′) (G + δI) (W − W′)ᵀ) over W′ that is 0 where the mask prunes.

    For a row w with kept inputs S it solves G_SS x = G_S: w (the normal equations) by Cholesky, in
    float64. O(rows·k³) for k kept inputs of a row. The ranks of the layer share its rows.

    Args:
        layer: W and G.
        mask: True = keep.
        damping: δ in units of the mean of G's diagonal; > 0, as G may be singular.

    Returns:
        W′, float32.
    """
    gram = damped(layer.gram, damping)
    target = layer.weight.double() @ gram  # w G, of which each system takes the kept entries
    return by_rows(
        lambda rows: _solved(gram, target[rows], mask[rows]).float(), len(mask), layer.group
    )


def _solved(gram: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The solutions of some rows."""
    found = torch.zeros_like(target)
    counts = mask.sum(1)
    for k in sorted(set(counts.tolist())):
        rows = torch.nonzero(counts == k).flatten()
        step = max((ROOM if gram.is_cpu else DEVICE_ROOM) // max(k * k, 1), 1)
        for part in torch.split(rows, step) if k else ():
            kept = mask[part].nonzero()[:, 1].view(-1, k)  # the kept inputs of each row
            systems = gram[kept[:, :, None], kept[:, None, :]]
            right = target[part].gather(1, kept)
            solved = torch.cholesky_solve(right[:, :, None], torch.linalg.cholesky(systems))
            found[part[:, None], kept] = solved[:, :, 0]
    return found
