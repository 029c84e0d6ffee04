"""The fingerprint of a pruning: the settings that decide its masks, compared when it resumes.

A longer training has a longer schedule: `PHASES` may differ, if the last step differs. There is no
seed: PINS draws no random numbers but the signs of Hutchinson's method, from torch's generator.
"""

from collections.abc import Mapping
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any

from pins.errors import CheckpointError
from pins.importance.criterion import Criterion
from pins.importance.smoothing import Smoothing
from pins.pruning.schedules import Schedule
from pins.selection.allocation import Allocation

END = "last step"
PHASES = (END, *(f"schedule's {name}" for name in ("steps", "warmup", "cooldown", "at")))


def fingerprint(
    criterion: Criterion, schedule: Schedule, smoothing: Smoothing, allocation: Allocation
) -> dict[str, Any]:
    """Numbers and texts by the name of the setting, as JSON holds them.

    Of a class from outside PINS these are the attributes that are numbers or texts.
    """
    return {
        "criterion": criterion.name,
        "sparsity": _value(schedule.sparsity(schedule.last)),
        "schedule": type(schedule).__name__,
        "smoothing": smoothing.name,
        **_attributes("criterion", criterion),
        **_attributes("schedule", schedule),
        **_attributes("smoothing", smoothing),
        **{f"smoothing's beta of the {kind}": beta for kind, beta in smoothing.betas.items()},
        **_attributes("allocation", allocation),
        END: schedule.end,
    }


def require_same(stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check that a training may resume a stored one.

    Raises:
        CheckpointError: a setting differs; the message names it and both values.
    """
    longer = stored.get(END) != given.get(END)
    for name in dict.fromkeys([*given, *stored]):
        if longer and name in PHASES:
            continue
        if stored.get(name) != given.get(name):
            raise CheckpointError(
                f"{name} was {stored.get(name)!r} and is {given.get(name)!r} now: give the same to "
                "resume, or begin anew from the weights"
            )


def _attributes(owner: str, instance: object) -> dict[str, Any]:
    values = {n.lstrip("_"): _value(v) for n, v in getattr(instance, "__dict__", {}).items()}
    return {f"{owner}'s {name}": value for name, value in values.items() if value is not None}


def _value(value: object) -> bool | int | float | str | None:
    """The value as JSON holds it; None if it is neither a number nor a text."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if not isinstance(value, Real):
        return None
    # 4/5 is the decimal 0.8, as in `exact_ratio`; 1/3 is none
    if isinstance(value, Rational) and Fraction(repr(float(value))) != value:
        return str(value)
    return float(value)
