"""All matrices of a model as one selection: whether the masks are its optimum by magnitude.

Tensors are read one at a time, as the selection asks for them, and a bit is held for each weight.
Only for the certificate of an optimum all matrices are in memory.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pins.selection.constraints import Cardinality
from pins.selection.optimality import optimality
from pins.selection.tree import View
from pins.utils import bit_packing
from pins.utils.lazy_tensors import Computed
from verification.audit.comparison import wide
from verification.audit.criteria import MAGNITUDE, Judgement, judge
from verification.audit.layer import compared
from verification.audit.matching import Pair
from verification.certificates.regret import regret

GLOBAL = "global"


def judge_model(pairs: Sequence[Pair], certificate: Path) -> Judgement:
    """Judge the masks of these matrices among all that keep as many weights together.

    Args:
        pairs: at least two matrices; what is zero in both models counts as pruned.
        certificate: the file to write if the masks are an optimum.
    """
    shapes = {pair.name: torch.Size(pair.sparse.shape) for pair in pairs}
    own = {pair.name: pair for pair in pairs}
    bits, dtypes, kept, same = {}, {}, 0, True
    for pair in pairs:
        dense, found = compared(pair)
        same &= dense.dtype == found.sparse.dtype
        bits[pair.name], dtypes[pair.name] = bit_packing.packed(found.kept), found.sparse.dtype
        kept += int(found.kept.count_nonzero())
    masks = Computed(shapes, lambda name: bit_packing.unpacked(bits[name], shapes[name]))
    tree = Cardinality(kept).tree({name: View.of(shape) for name, shape in shapes.items()})

    def read(name: str) -> Tensor:
        weights, _ = own[name].dense.read()
        assert weights is not None, "compared above"
        return weights

    def stored(name: str) -> Tensor:
        return wide(read(name))

    def rounded(name: str) -> Tensor:
        return wide(read(name).to(dtypes[name]))

    for weights in (stored,) if same else (stored, rounded):
        if optimality(_magnitudes(shapes, weights), masks, tree=tree).holds:
            held = {name: weights(name) for name in shapes}
            return judge(MAGNITUDE, held, dict(masks), tree, GLOBAL, certificate)
    short = regret(_magnitudes(shapes, stored), masks, tree)
    kind = str(stored(pairs[0].name).dtype).removeprefix("torch.")
    lost = short.overlap.second_only
    return Judgement(MAGNITUDE, GLOBAL, kind, short.exact, short.scale, lost, None, None, None)


def _magnitudes(
    shapes: Mapping[str, torch.Size], weights: Callable[[str], Tensor]
) -> Mapping[str, Tensor]:
    return Computed(shapes, lambda name: weights(name).abs())
