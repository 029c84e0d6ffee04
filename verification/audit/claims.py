"""What a sparse model says of itself, and whether it is true.

    config.json   `sparsity_config` of compressed-tensors: `global_sparsity`, a ratio, or above 1 a
                  percentage; `sparsity_structure`, N:M; of the layers that `targets` name and
                  `ignore` does not; the former may be of the whole model too
    run.json      of `pins oneshot` and `pins prune`: `settings.sparsity`, `settings.pattern`, and
                  the number of kept weights, of the layers that the run pruned

A ratio is true if it is that of the zeros to the digits that are written, to whole percent at
least and hundredths of a percent at most; or if rounding in each row leads from one to the other:
the two differ by at most a weight for each row. A number of weights is true exactly. A weight that
is zero in both models counts whichever way makes the claim true.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from pins.errors import CardinalityError
from pins.models.sparse_bitmask import QUANTIZATION, SPARSITY
from pins.models.stored_model import CONFIG, StoredModel
from pins.selection.pattern import Pattern
from pins.utils.text_files import read_object, reading, shown
from verification.audit.matching import EMBEDDINGS, key

RUN, MASKS = "run.json", "masks.safetensors"
LEAST_DIGITS, MOST_DIGITS = 2, 4  # of a ratio
SAID = "sparsity_config"

Named = Callable[[str], bool]
"""The name of a tensor ↦ whether the claim is about it."""


@dataclass(frozen=True)
class Facts:
    """What the audit found of a layer.

    Attributes:
        name: of the tensor.
        rows: number of its rows.
        total: number of its weights.
        kept: of these what is certainly kept.
        free: what counts either way.
        most: by M, the most weights that M consecutive inputs keep; empty for vectors.
    """

    name: str
    rows: int
    total: int
    kept: int
    free: int
    most: Mapping[int, int]


@dataclass(frozen=True)
class Stated:
    """A claim.

    Attributes:
        key: where it stands.
        claimed: what it says, as it is written.
        sparsity: a ratio of zeros, if it is one.
        pattern: N:M, if it is one.
        kept: a number of kept weights, if it is one.
        digits: that a ratio is written with.
        named: the layers that it is about.
        of_model: it may be about the whole model.
    """

    key: str
    claimed: Any
    named: Named
    sparsity: Fraction | None = None
    pattern: Pattern | None = None
    kept: int | None = None
    digits: int = LEAST_DIGITS
    of_model: bool = False

    def rule(self, tensors: Sequence[Facts]) -> dict[str, Any]:
        """The claim as audit.json has it, with what was found in the tensors of the audit."""
        found, true = self._found([each for each in tensors if each.most and self.named(each.name)])
        if self.of_model and not true:
            whole, true = self._found(tensors)
            found = whole if true else found
        return {"key": self.key, "claimed": self.claimed, "found": found, "true": true}

    def _found(self, own: Sequence[Facts]) -> tuple[Any, bool]:
        if not own:
            return "no layer of this name was found", False
        kept, free, total = (sum(getattr(f, n) for f in own) for n in ("kept", "free", "total"))
        if self.kept is not None:
            nearest = min(max(self.kept, kept), kept + free)
            return nearest, nearest == self.kept
        if self.pattern is not None:
            n, m = self.pattern.n, self.pattern.m
            wrong = [each.name for each in own if each.most.get(m, n + 1) > n]
            if not wrong:
                return str(self.pattern), True
            return f"more than {n} of {m} in {wrong[0]}, and in {len(wrong)} layers", False
        assert self.sparsity is not None, "one of the three is stated"
        asked = self.sparsity * total
        nearest = min(max(asked, Fraction(total - kept - free)), Fraction(total - kept))
        allowed = max(Fraction(total, 2 * 10**self.digits), Fraction(sum(f.rows for f in own)))
        return float(nearest / total), abs(nearest - asked) <= allowed


def claims_of(model: StoredModel) -> list[Stated]:
    """The claims of a sparse model's files.

    Raises:
        FileError: one of them is no number, or no pattern.
    """
    found = []
    with reading(f"{model.place / CONFIG} states no sparsity that can be read"):
        for each in QUANTIZATION:
            section = model.config.get(each)
            if isinstance(section, dict) and isinstance(section.get(SPARSITY), dict):
                found += _of_others(section[SPARSITY])
    if (run := model.place / RUN).is_file():
        with reading(f"{run} states no run that can be read"):
            found += _of_run(model.place, read_object(run))
    return found


def ratio(value: Any) -> tuple[Fraction, int]:
    """A ratio of zeros, or a percentage if it is above 1, and the digits of the ratio.

    Raises:
        ValueError: it is no number of [0, 100].
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ValueError(f"{shown(value)} is no sparsity")
    written = Decimal(repr(value)) / (100 if value > 1 else 1)
    exponent = written.normalize().as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) else 0
    return Fraction(written), min(max(digits, LEAST_DIGITS), MOST_DIGITS)


def n_of_m(value: Any) -> Pattern | None:
    """The N:M of a sparsity structure; None if it says nothing, as "unstructured" does."""
    try:
        return Pattern.parse(value) if isinstance(value, str) else None
    except CardinalityError:
        return None


def _of_others(config: Mapping[str, Any]) -> list[Stated]:
    named = _targets(config.get("targets") or ["Linear"], config.get("ignore") or [])
    found = []
    if value := config.get("global_sparsity"):  # 0.0 is the default
        number, digits = ratio(value)
        where = f"{SAID}.global_sparsity"
        found.append(Stated(where, value, named, sparsity=number, digits=digits, of_model=True))
    structure = config.get("sparsity_structure")
    if pattern := n_of_m(structure):
        found.append(Stated(f"{SAID}.sparsity_structure", structure, named, pattern=pattern))
    return found


def _targets(targets: Sequence[str], ignored: Sequence[str]) -> Named:
    """Modules by name, by "re:" and a pattern, or by a class: all matrices but embeddings."""
    for entry in (*targets, *ignored):
        try:
            re.compile(entry.removeprefix("re:"))
        except re.error as error:
            raise ValueError(f"{shown(entry)} is no pattern: {error}") from error

    def fits(entry: str, module: str) -> bool:
        if entry.startswith("re:"):
            return re.match(entry.removeprefix("re:"), module) is not None
        if "." in entry or not entry[:1].isupper():
            return key(entry) == key(module)
        return re.search(EMBEDDINGS, module) is None or "head" in module

    def named(tensor: str) -> bool:
        module = tensor.removesuffix(".weight")
        return any(fits(each, module) for each in targets) and not any(
            fits(each, module) for each in ignored
        )

    return named


def _of_run(folder: Path, run: Mapping[str, Any]) -> list[Stated]:
    settings = run["settings"]
    if run["format"] == "pins-oneshot":
        layers = {n: each for block in run["blocks"] for n, each in block["layers"].items()}
        own, kept = {key(n) for n, each in layers.items() if "left_dense" not in each}, None
        if len(own) == len(layers):
            kept = run["weights"]["kept"]
    elif run["format"] == "pins-run":
        own = {key(name) for name in StoredModel.open(str(folder / MASKS)).tensors}
        kept = run["costs"]["weights"]["kept"]
    else:
        return []

    def named(tensor: str) -> bool:
        return key(tensor) in own

    found = []
    if settings.get("sparsity") is not None and not settings.get("budget"):
        number, digits = ratio(settings["sparsity"])
        claimed = settings["sparsity"]
        found.append(Stated(f"{RUN} sparsity", claimed, named, sparsity=number, digits=digits))
    if pattern := n_of_m(settings.get("pattern")):
        found.append(Stated(f"{RUN} pattern", settings["pattern"], named, pattern=pattern))
    if kept is not None:
        found.append(Stated(f"{RUN} kept", kept, named, kept=int(kept)))
    return found
