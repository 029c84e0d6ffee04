"""The inputs of the final decision, as files: a certificate of them proves the scores too."""

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter

from torch import Tensor

from pins.importance.criterion import Criterion, Observation, Reads
from pins.importance.trust_region.criterion import TrustRegion
from pins.runs.folder import INPUTS
from pins.runs.settings import AUTHORS, Settings
from pins.selection.select import Decision

_QUANTITIES: Mapping[str, Callable[[Observation], Tensor]] = {
    "weights": attrgetter("after"),
    **{what: attrgetter(what) for what in ("gradient", "before", "curvature", "momentum")},
}


def no_formula(settings: Settings, multiplier: float | None) -> str | None:
    """Why the scores of a decision are no formula of one step; None if they are one.

    Args:
        settings: resolved.
        multiplier: of a trust region.
    """
    if settings.criterion == AUTHORS:
        return "averaged by the released code"
    if settings.smoothing != "none":
        return f"smoothed ({settings.smoothing})"
    return "the costs alone, of multiplier 0" if multiplier == 0 else None


def are_kept(settings: Settings, decision: Decision) -> bool:
    """Whether the inputs of a decision are to be kept: on request, where they prove its scores."""
    fault = no_formula(settings, getattr(decision, "multiplier", None))
    return settings.keep_inputs and fault is None


def input_files(
    criterion: Criterion, observed: Mapping[str, Observation]
) -> Iterator[tuple[str, Mapping[str, Tensor], Mapping[str, str]]]:
    """Path, tensors and metadata of a file for each quantity that the criterion reads.

    The metadata have δ of a trust region, `offset`, in hexadecimal.
    """
    header = {"format": "pins-inputs", "version": "1"}
    if isinstance(criterion, TrustRegion):
        header["offset"] = criterion.damped(observed).offset.hex()
    for what, read in _QUANTITIES.items():
        if what == "weights" or Reads[what.upper()] in criterion.reads:
            tensors = {name: read(observed[name]) for name in observed}
            yield f"{INPUTS}/{what}.safetensors", tensors, header
