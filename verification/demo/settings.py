"""Settings of the demo, and the sizes at which a short run is below a full one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pins.models.pretrained import DEMO_MODEL
from pins.pruning.schedules import CubicSchedule
from verification.experiments.model_snapshot import MAX_LENGTH
from verification.experiments.multiplier_path import SHARES


@dataclass(frozen=True)
class DemoSettings:
    """The run: the defaults take two to three minutes on two cores, `full` eight to ten."""

    model: str = DEMO_MODEL
    task: str = "stdlib-docs"
    criterion: str = "obd"
    sparsity: float = 0.8
    max_length: int = 32
    dense_steps: int = 220
    sparse_steps: int = 150
    interval: int = 10
    cooldown: int = 40
    batch_size: int = 16
    learning_rate: float = 3e-4  # the highest; 4e-4 needs the steps of a full run
    compared_rows: int = 32  # rows on which the loss change of one decision is measured
    fisher_rows: int = 24  # of these, rows for the curvature
    fractions: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.5)
    shares: tuple[float, ...] = SHARES[1::2]
    seed: int = 0
    keep_scores: bool = False

    @classmethod
    def full(cls, **given: Any) -> "DemoSettings":
        """The settings of a full run, except those given."""
        return cls(**{name: value for name, (_, value) in SHORTENED.items()} | given)

    def schedule(self) -> CubicSchedule:
        """The schedule of the pruning steps.

        Raises:
            ScheduleError: no step is left to prune in.
        """
        return CubicSchedule(
            steps=self.sparse_steps,
            final_sparsity=self.sparsity,
            cooldown=self.cooldown,
            interval=self.interval,
        )

    def shortened(self) -> list[dict[str, Any]]:
        """The sizes below those of a full run: `what`, its `short` and its `full` value."""
        return [
            {"what": what, "short": short, "full": _size(full)}
            for name, (what, full) in SHORTENED.items()
            if (short := _size(getattr(self, name))) < _size(full)
        ]


SHORTENED: Mapping[str, tuple[str, Any]] = {
    "max_length": ("tokens of a row, at most", MAX_LENGTH),
    "dense_steps": ("steps of fine-tuning", 300),
    "sparse_steps": ("steps of pruning after it", 240),
    "cooldown": ("of these, at the final sparsity", 60),
    "learning_rate": ("highest learning rate", 4e-4),
    "compared_rows": ("rows on which criteria are compared", 128),
    "fisher_rows": ("of these, rows of the curvature", 64),
    "fractions": ("fractions at which they are compared", (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5)),
    "shares": ("multipliers between obd and pins", SHARES),
}
"""Setting → what it is, and its value in a full run."""


def _size(value: Any) -> Any:
    """The length of a tuple; any other value itself."""
    return len(value) if isinstance(value, tuple) else value
