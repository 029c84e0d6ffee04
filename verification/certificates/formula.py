"""Scores that are a fixed formula of files: computed by PINS itself, and stated with their inputs.

The checker recomputes them bit for bit, so the claim begins at the files. A torch operation rounds
once; of those that fuse two (`add(alpha=)`, `lerp`, `addcmul`) the criteria here use none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pins.errors import CertificateError
from pins.importance.criteria import find_criterion
from pins.importance.criterion import Observation
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.program import Terms
from pins.utils.io import load_tensors
from verification.certificates.document import stated_file

READS: Mapping[str, tuple[str, ...]] = {
    "magnitude": ("weights",),
    "sensitivity": ("gradient", "before"),
    "movement": ("gradient", "before"),
    "pins": ("gradient", "weights"),
    "abs-pins": ("gradient", "weights"),
    "obd": ("curvature", "weights"),
    "trust-region": ("momentum", "curvature", "weights"),
}


@dataclass(frozen=True)
class Formula:
    """The formula of a criterion, of these files.

    Attributes:
        name: the criterion, of READS.
        inputs: a safetensors file for each quantity that it reads: weights (after the step, θ+u),
            gradient (g), before (θ), curvature (h), momentum (ĝ).
        offset: δ of the trust region; None: as a decision takes it, a share of the mean of h.
    """

    name: str
    inputs: Mapping[str, Path]
    offset: float | None = None

    def __post_init__(self) -> None:
        if self.name not in READS:
            raise CertificateError(
                f"{self.name!r} is no fixed formula of files: give one of {', '.join(READS)}, or "
                "the scores themselves"
            )
        if set(self.inputs) != set(READS[self.name]):
            given = ", ".join(self.inputs) or "none"
            raise CertificateError(
                f"{self.name} is computed from the files {' and '.join(READS[self.name])}, given "
                f"are {given}: give exactly these"
            )
        if self.offset is not None and self.name != TrustRegion.name:
            raise CertificateError(f"{self.name} has no offset: it is of {TrustRegion.name}")

    def computed(self) -> "ComputedFormula":
        """The scores, and the costs of a trust region, as `pins.importance` computes them.

        The tensors are those of the file that has the fewest; the others may have more.

        Raises:
            CertificateError: a file lacks a tensor, or shapes or dtypes do not fit.
            FileError: no such file, or not a whole safetensors file.
        """
        files = {role: load_tensors(self.inputs[role])[0] for role in READS[self.name]}
        observed = {name: self._observed(name, files) for name in min(files.values(), key=len)}
        criterion = find_criterion(self.name)
        if not isinstance(criterion, TrustRegion):
            scores = {name: criterion.importance(each) for name, each in observed.items()}
            return ComputedFormula(self, scores, None, {})
        if self.offset is None:
            criterion = criterion.damped(observed)
        else:
            criterion = replace(criterion, offset=self.offset)
        terms: dict[str, Terms] = {name: criterion.terms(each) for name, each in observed.items()}
        scores, costs = ({name: both[i] for name, both in terms.items()} for i in (0, 1))
        return ComputedFormula(self, scores, costs, {"offset": criterion.offset})

    def _observed(self, name: str, files: Mapping[str, Mapping[str, Tensor]]) -> Observation:
        """One tensor of each file; the formula reads `after` of those that have weights alone."""
        for role, tensors in files.items():
            if name not in tensors:
                raise CertificateError(f"{self.inputs[role]} has no {name!r}, the other files have")
        parts = {role: tensors[name] for role, tensors in files.items()}
        forms = {(tuple(each.shape), _wide(each.dtype)) for each in parts.values()}
        if len(forms) > 1 or any(dtype is None for _, dtype in forms):
            have = ", ".join(f"{r} {p.dtype} {tuple(p.shape)}" for r, p in parts.items())
            raise CertificateError(
                f"{name!r} has {have}: a formula is of equal shapes, and of float64 alone or of "
                "float32 and 16-bit floats; convert the files"
            )
        after = parts.pop("weights", parts.get("before"))
        assert after is not None, "a formula reads one of the two"
        return Observation(after, **parts)


def _wide(dtype: torch.dtype) -> torch.dtype | None:
    """The dtype of the arithmetic on floats of this one; None for other dtypes."""
    if dtype in (torch.float16, torch.bfloat16, torch.float32):
        return torch.float32
    return dtype if dtype == torch.float64 else None


@dataclass(frozen=True)
class ComputedFormula:
    """Scores, costs of a trust region, and the numbers of the formula, by name."""

    formula: Formula
    scores: Mapping[str, Tensor]
    costs: Mapping[str, Tensor] | None
    numbers: Mapping[str, float]

    def claim(self) -> dict[str, Any]:
        """The formula as the certificate states it."""
        numbers = {name: float(value).hex() for name, value in self.numbers.items()}
        return {"name": self.formula.name, "numbers": numbers}

    def evidence(self, certificate: Path) -> dict[str, Any]:
        """The files that it reads, with their digests."""
        reads = READS[self.formula.name]
        return {role: stated_file(self.formula.inputs[role], certificate) for role in reads}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether the tensors have equal names, dtypes, shapes and bits; 0 and −0 differ."""
    return one.keys() == other.keys() and all(
        (one[name].dtype, one[name].shape) == (each.dtype, each.shape)
        and torch.equal(_bits(one[name]), _bits(each))
        for name, each in other.items()
    )


def _bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
