"""Checks that all ranks are in the same run and hold the same masks and weights, bit for bit."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pins.distributed.collectives import gather_json
from pins.distributed.process_group import Group
from pins.errors import CheckpointError, OptimalityError, SettingError
from pins.utils.bit_packing import packed

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
BLOCK = 1 << 20  # numbers at a time: bounds the memory of a checksum


def require_same_masks(masks: Mapping[str, Tensor], step: int, group: Group) -> None:
    """Check that the masks of every rank have the digest of rank 0's; each rank sends 32 bytes.

    Raises:
        OptimalityError: on every rank, if the masks of some rank differ after this step.
    """
    if group.size == 1:
        return
    _require_same(torch.tensor(list(digest(masks)), dtype=torch.uint8), "masks", step, group)


def require_same_weights(weights: Mapping[str, Tensor], step: int, group: Group) -> None:
    """Check that the weights of every rank have the checksums of rank 0's; 8 bytes for a tensor.

    Raises:
        OptimalityError: on every rank, if the weights of some rank differ after this step.
    """
    if group.size > 1:
        sums = torch.stack([checksum(weight).cpu() for weight in weights.values()])
        _require_same(sums, "weights", step, group)


def _require_same(own: Tensor, what: str, step: int, group: Group) -> None:
    found = group.gathered(own)
    other = [rank for rank, each in enumerate(found) if not torch.equal(each, found[0])]
    if other:
        raise OptimalityError(
            f"after the decision of step {step} rank {', '.join(map(str, other))} of {group.size} "
            f"does not have the {what} of rank 0: the ranks no longer train the same model; are "
            "their devices and versions of torch the same?"
        )


def checksum(tensor: Tensor) -> Tensor:
    """Σᵢ (2i+1)·bᵢ mod 2⁶⁴ with bᵢ the bits of number i: 0-d, int64.

    An odd factor has an inverse mod 2⁶⁴: the sum differs if one number differs.
    """
    bits = tensor.detach().reshape(-1).view(INTEGERS[tensor.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for start in range(0, len(bits), BLOCK):
        block = bits[start : start + BLOCK].long()
        first = 2 * start + 1
        odd = torch.arange(first, first + 2 * len(block), 2, device=tensor.device)
        total += (block * odd).sum()
    return total


def digest(masks: Mapping[str, Tensor]) -> bytes:
    """The SHA-256 of names, shapes and bits, in the order of the names."""
    sha = hashlib.sha256()
    for name in sorted(masks):
        sha.update(json.dumps([name, list(masks[name].shape)]).encode())
        sha.update(packed(masks[name]).cpu().numpy().tobytes())
    return sha.digest()


def require_same_run(fingerprint: Mapping[str, Any], step: int, group: Group) -> None:
    """Check that every rank has the same settings, model and data, and resumes after one step.

    Raises:
        SettingError: on every rank, if two fingerprints differ.
        CheckpointError: on every rank, if two ranks found different checkpoints.
    """
    if group.size == 1:
        return
    first, *others = gather_json(group, {**fingerprint, "step": step})
    for rank, other in enumerate(others, start=1):
        for name, value in first.items():
            if other.get(name) == value:
                continue
            if name == "step":
                raise CheckpointError(
                    f"rank {rank} resumes after step {other.get(name)}, rank 0 after step {value}: "
                    "give a folder that all of them see"
                )
            raise SettingError(
                f"rank {rank} has another {name} than rank 0 ({other.get(name)!r}, not {value!r}): "
                "give all of them the same"
            )
