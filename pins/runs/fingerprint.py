"""The fingerprint of a run: its settings, and the digests of the model, teacher and data it reads.

Runs with the same fingerprint end with the same bits, on the same device and the same software.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pins.models.digests import model_digest
from pins.runs.settings import Settings
from pins.tasks import Task

# settings that may differ when a run resumes; the fingerprint has digests in place of the paths
NOT_COMPARED = ("model", "teacher", "data", "device", "checkpoint_every", "keep_inputs")
# settings that follow from others where they are not given, each after those it follows from; they
# are last in a fingerprint: the first name that differs is then the cause of the others
DERIVED = (
    "max_length", "batch_size", "learning_rate", "smoothing", "radius", "steps", "warmup",
    "cooldown", "evaluate_every",
)  # fmt: skip
DIGITS = 12  # of a digest in a message


def fingerprint(
    settings: Settings, model: Path, teacher: Path | None, task: Task
) -> dict[str, Any]:
    """The fingerprint as JSON values by name.

    Args:
        settings: resolved.
        model: the folder of the model.
        teacher: the folder of the teacher; None without one.
        task: with its data.
    """
    values = settings.as_json()
    return {
        **chosen(settings),
        "model": model_digest(model),
        "teacher": None if teacher is None else model_digest(teacher),
        "data": dict(task.digests),
        **{name: values[name] for name in DERIVED},
    }


def chosen(settings: Settings) -> dict[str, Any]:
    """The settings in a fingerprint that follow from no others, as JSON values by name."""
    values = settings.as_json()
    return {name: v for name, v in values.items() if name not in (*NOT_COMPARED, *DERIVED)}


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The first name whose values differ, and both values as short texts; None if none does."""
    found, wanted = (json.loads(json.dumps(each)) for each in (found, wanted))  # no tuples
    for name in [*wanted, *found]:
        one, other = found.get(name), wanted.get(name)
        if one != other:
            return name, _short(one, other), _short(other, one)
    return None


def _short(value: Any, other: Any) -> str:
    """A value in at most 80 characters; of digests by file only those that differ."""
    if isinstance(value, dict) and isinstance(other, dict):
        value = {
            file: digest[:DIGITS] if isinstance(digest, str) else digest
            for file, digest in value.items()
            if digest != other.get(file)
        }
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
