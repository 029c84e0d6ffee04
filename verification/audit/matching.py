"""Which tensor of the sparse model is which of the dense one: a table of rules.

    PREFIXES      what wrappers and heads put before a name
    RENAMED       what other formats call otherwise
    FUSED         matrices that are stored as one, their outputs one after the other
    TIED          output matrices that are the embedding where they are not stored
    TRANSPOSED    layers that store (inputs, outputs)

Names are compared after PREFIXES and RENAMED. Interleaved projections, as GPT-NeoX's
`query_key_value`, and stacked experts have no rule: they match under their own names alone.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from pins.models.stored_model import MASK, StoredModel, StoredTensor

PREFIXES = (
    "_orig_mod", "module", "base_model", "model", "transformer", "bert", "roberta", "distilbert",
    "electra", "gpt_neox", "language_model",
)  # fmt: skip
RENAMED = (
    (r"\.base_layer\.", "."),  # PEFT around a layer
    (r"\.block_sparse_moe\.", ".mlp."),
    (r"(\.experts\.\d+)\.w1\.", r"\1.gate_proj."),
    (r"(\.experts\.\d+)\.w2\.", r"\1.down_proj."),
    (r"(\.experts\.\d+)\.w3\.", r"\1.up_proj."),
)
FUSED: Mapping[str, tuple[str, ...]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "Wqkv": ("q_proj", "k_proj", "v_proj"),
    "c_attn": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
TIED = {
    "lm_head.weight": ("embed_tokens.weight", "wte.weight", "decoder.embed_tokens.weight"),
    "embed_out.weight": ("embed_in.weight",),
}
EMBEDDINGS = r"(embed|wte|lm_head)"
TRANSPOSED = {"gpt2": r"\.(c_attn|c_proj|c_fc)\.weight$"}  # by the model_type of config.json


@dataclass(frozen=True)
class Side:
    """A matrix inside a stored tensor.

    Attributes:
        name: of the stored tensor.
        stored: the tensor.
        transposed: it is stored (inputs, outputs).
        rows: of its outputs those of this matrix, from and to; None: all.
    """

    name: str
    stored: StoredTensor = field(repr=False)
    transposed: bool = False
    rows: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(…, outputs, inputs)."""
        shape = self.stored.shape
        if self.transposed:
            shape = (*shape[:-2], shape[-1], shape[-2])
        return shape if self.rows is None else (self.rows[1] - self.rows[0], *shape[1:])

    def read(self) -> tuple[Tensor | None, Tensor | None]:
        """The values and the stored mask of the matrix; None: there are none."""
        values, mask = self.stored.read()
        return self._own(values), self._own(mask)

    def _own(self, tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        tensor = tensor.mT if self.transposed else tensor
        return (tensor if self.rows is None else tensor[slice(*self.rows)]).contiguous()


@dataclass(frozen=True)
class Pair:
    """A tensor of both models; the smaller one gives the name if one of them has it fused."""

    name: str
    dense: Side
    sparse: Side


@dataclass(frozen=True)
class Matching:
    """What belongs together, and what does not.

    Attributes:
        pairs: of equal shapes, in the order of the sparse model.
        misfits: of equal names, and of different shapes.
        only_dense: names of tensors of the dense model alone.
        only_sparse: likewise.
        coverage: the ratio of weights that are in pairs, of the model with the smaller one; of a
            file of masks, of its own.
    """

    pairs: tuple[Pair, ...]
    misfits: tuple[Pair, ...]
    only_dense: tuple[str, ...]
    only_sparse: tuple[str, ...]
    coverage: float

    @property
    def other_vocabulary(self) -> Pair | None:
        """An embedding that differs in the number of its tokens alone."""
        for pair in self.misfits:
            if re.search(EMBEDDINGS, pair.name) and pair.dense.shape[1:] == pair.sparse.shape[1:]:
                return pair
        return None


def match(dense: StoredModel, sparse: StoredModel) -> Matching:
    """Match the tensors of two models; buffers of integers have no part in it."""
    kind = str(sparse.config.get("model_type", dense.config.get("model_type")))
    stored_transposed = TRANSPOSED.get(kind, "(?!)")
    own = _sides(sparse, stored_transposed)
    others = _sides(dense, stored_transposed)
    for one, two in ((own, others), (others, own)):
        _split_fused(one, two)
        _add_tied(one, two)
    pairs = [
        Pair(_name(each, own[each], others[each]), others[each], own[each])
        for each in own
        if each in others
    ]
    pairs = _turned(pairs, stored_transposed)
    fitting = [each for each in pairs if each.dense.shape == each.sparse.shape]
    ratios = [
        _covered([each.dense for each in fitting], dense),
        _covered([each.sparse for each in fitting], sparse),
    ]
    only_masks = all(each.form == MASK for each in sparse.tensors.values())
    return Matching(
        tuple(fitting),
        tuple(each for each in pairs if each.dense.shape != each.sparse.shape),
        tuple(dict.fromkeys(side.name for each, side in others.items() if each not in own)),
        tuple(dict.fromkeys(side.name for each, side in own.items() if each not in others)),
        ratios[1] if only_masks else min(ratios),
    )


def _sides(model: StoredModel, transposed: str) -> dict[str, Side]:
    """The tensors of a model by the names to compare."""
    found: dict[str, Side] = {}
    for name, stored in model.tensors.items():
        if stored.floating:
            turned = len(stored.shape) > 1 and re.search(transposed, name) is not None
            known = key(name)
            found[name if known in found else known] = Side(name, stored, turned)
    return found


def key(name: str) -> str:
    """The name by which tensors are compared."""
    first, _, rest = name.partition(".")
    while first in PREFIXES and rest:
        name = rest
        first, _, rest = name.partition(".")
    for pattern, instead in RENAMED:
        name = re.sub(pattern, instead, name)
    return name


def _split_fused(sides: dict[str, Side], others: Mapping[str, Side]) -> None:
    """Replace fused matrices by the parts that the other model has."""
    for name in [*sides]:
        whole = next((each for each in FUSED if f".{each}." in name), None)
        if whole is None or name in others:
            continue
        parts = [name.replace(f".{whole}.", f".{part}.") for part in FUSED[whole]]
        side, sizes = sides[name], [others[p].shape[0] for p in parts if p in others]
        if len(sizes) == len(parts) and sum(sizes) == side.shape[0]:
            del sides[name]
            for number, part in enumerate(parts):
                begin = sum(sizes[:number])
                sides[part] = replace(side, rows=(begin, begin + sizes[number]))


def _add_tied(sides: dict[str, Side], others: Mapping[str, Side]) -> None:
    """Give a model the output matrix that the other one has and that it ties to its embedding."""
    for head, embeddings in TIED.items():
        known = next((sides[each] for each in embeddings if each in sides), None)
        if head in others and head not in sides and known is not None:
            sides[head] = known


def _name(compared: str, *sides: Side) -> str:
    return next((side.name for side in sides if key(side.name) == compared), compared)


def _turned(pairs: list[Pair], transposed: str) -> list[Pair]:
    """The pairs, where one model stores what the other stores transposed.

    Of square matrices nothing tells it: they follow the others of the same kind.
    """

    def reversed_shape(pair: Pair) -> bool:
        shape = pair.sparse.shape
        return len(shape) == 2 and shape[0] != shape[1] and pair.dense.shape == shape[::-1]

    all_of_kind = any(reversed_shape(p) and re.search(transposed, p.name) for p in pairs)
    return [
        replace(pair, sparse=replace(pair.sparse, transposed=not pair.sparse.transposed))
        if reversed_shape(pair)
        or (all_of_kind and len(pair.sparse.shape) == 2 and re.search(transposed, pair.name))
        else pair
        for pair in pairs
    ]


def _covered(sides: list[Side], model: StoredModel) -> float:
    """The ratio of a model's weights that are in these matrices; a tied one is stored once."""
    total = sum(math.prod(each.shape) for each in model.tensors.values() if each.floating)
    known = {(side.name, side.rows): math.prod(side.shape) for side in sides}
    return sum(known.values()) / max(total, 1)
