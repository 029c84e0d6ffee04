"""The settings of a run of `pins prune`: their names, defaults and files."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from pins.errors import ScheduleError, SettingError
from pins.models.demo_model import DEMO_MODEL
from pins.utils.lookup import choose_one

if TYPE_CHECKING:  # the command line reads the settings without loading torch
    from pins.importance.criterion import Criterion
    from pins.pruning.schedules import Schedule
    from pins.selection.allocation import Scope
    from pins.tasks.task import Recipe

AUTHORS = "authors"  # the criterion that is a whole method: the released code's behaviour
TRUST_REGION = "trust-region"
SCOPES = ("global", "tensor")
OPTIMIZERS = ("adamw", "sgd")
LARGEST_SEED = 2**63 - 1  # that torch and numpy both take
EVALUATIONS = 20  # in a run, where nothing else is asked for

# the names in the tables of criteria, schedules, smoothings and curvatures, as a test asserts:
# literals, so that options and their help need none of the tables
CHOICES: Mapping[str, tuple[str, ...]] = {
    "criterion": (
        "pins", "abs-pins", "magnitude", "sensitivity", "movement", "obd", TRUST_REGION, AUTHORS,
    ),
    "schedule": ("cubic", "linear", "one-shot"),
    "smoothing": ("none", "window", "average", "uncertainty"),
    "curvature": ("adam", "fisher", "hutchinson"),
    "scope": SCOPES,
    "optimizer": OPTIMIZERS,
}  # fmt: skip
DERIVED = ("smoothing", "curvature")  # from the criterion and the optimiser, where not chosen


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to prune, on what, and how; the same names on the command line and in a file.

    The defaults are the paper's recipe for RTE (20 epochs of 16 rows, AdamW at 3e-5, a decision
    every 10 steps, 200 of 3,120 steps of warm-up, six times as many of cool-down, keep 20 %), with
    the score and the averages of its released code, whose defects they leave out: k is exact,
    zeros stay, averages are unbiased, the divergence is one. What depends on the task comes from
    its own recipe.

    Attributes:
        model: a folder, or an id on the Hugging Face hub.
        task: what the model learns and is judged by: rte, mrpc, stsb, cola, sst2, qnli, qqp, mnli,
            squad, ner, e2e, triples, wikitext, text or stdlib-docs.
        data: folder with the task's original files; default: the hub.
        sparsity: ratio of the prunable weights that are zero in the end.
        criterion: what ranks the weights; authors is the released code as a whole, defects and all.
        without_quirks: quirks that the criterion authors leaves out, by their names in
            `pins.pruning.authors.Quirks`.
        smoothing: how scores are averaged from step to step; authors has its own way; default:
            uncertainty, and none for trust-region, which reads averages.
        curvature: what tells how curved the loss is; default: adam, fisher with another optimizer.
        radius: share of the loss that trust-region may promise to take off, shared out over the
            steps to come; default: 0.5.
        measure: measure what each decision does to the loss of its step's rows; trust-region
            always does.
        schedule: how sparsity grows.
        warmup: steps at full density; default: 200/3120 of the run.
        cooldown: steps at the final sparsity; default: six times 200/3120 of the run.
        interval: ΔT, steps from one decision to the next.
        scope: whether all weights stand in one ranking (global) or each tensor keeps its share
            (tensor).
        minimum_kept: ratio of each tensor that is kept at least.
        include: regular expression for the names of the weights to prune; default: all linear
            layers but the head.
        self_regularization: mix the loss with the divergence from the latest best checkpoint.
        teacher: a dense fine-tuned model to start self-regularisation from; default: the model.
        temperature: temperature T of that divergence.
        epochs: passes over the training rows; default: the task's.
        steps: optimiser steps, instead of epochs.
        batch_size: rows of a step, which several processes divide; default: the task's.
        accumulation: parts that a step's rows are computed in, to save memory.
        optimizer: what takes the steps.
        learning_rate: the learning rate at its highest; default: the task's.
        weight_decay: how strongly the optimiser decays weights.
        max_length: tokens of a row at most; default: the task's.
        train_rows: use so many training rows only, drawn from the seed; default: all.
        test_rows: likewise for the test rows.
        evaluate_every: steps from one evaluation on held-out training rows to the next; default: a
            twentieth of the run.
        checkpoint_every: steps from one checkpoint to the next; default: as evaluations.
        seed: what all random numbers are drawn from.
        device: where to compute: cuda, of which each of several processes takes one, mps or cpu;
            default: the first there is.
        precision: of matrix products: float32, bfloat16 or float16; default: bfloat16 where CUDA
            has it, else float32.
        compile: compile the model first, with `torch.compile`.
        gradient_checkpointing: compute activations twice, to save memory.
    """

    model: str = DEMO_MODEL
    task: str = "stdlib-docs"
    data: Path | None = None
    sparsity: float = 0.8
    criterion: str = "abs-pins"
    without_quirks: tuple[str, ...] = ()
    smoothing: str | None = None
    curvature: str | None = None
    radius: float | None = None
    measure: bool = True
    schedule: str = "cubic"
    warmup: int | None = None
    cooldown: int | None = None
    interval: int = 10
    scope: str = "global"
    minimum_kept: float = 0.0
    include: str | None = None
    self_regularization: bool = True
    teacher: str | None = None
    temperature: float = 2.0
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    accumulation: int = 1
    optimizer: str = "adamw"
    learning_rate: float | None = None
    weight_decay: float = 0.0
    max_length: int | None = None
    train_rows: int | None = None
    test_rows: int | None = None
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    seed: int = 0
    device: str | None = None
    precision: str | None = None
    compile: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices and not (value is None and name in DERIVED):
                raise SettingError(f"{name} is {value!r}: {choose_one(value, choices)}")
        for name in (*POSITIVE, *NOT_NEGATIVE):
            least = 1 if name in POSITIVE else 0
            value = getattr(self, name)
            if value is not None and not least <= value < float("inf"):
                raise SettingError(f"{name} is {value}: it is at least {least}")
        if self.seed > LARGEST_SEED:
            raise SettingError(f"seed is {self.seed}: it is at most {LARGEST_SEED}")
        for name in ("learning_rate", "temperature", "radius"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SettingError(f"{name} is {value}: it is a number greater than 0")
        if self.epochs is not None and self.steps is not None:
            raise SettingError(f"epochs is {self.epochs} and steps {self.steps}: give one of them")
        if self.without_quirks and self.criterion != AUTHORS:
            raise SettingError(
                f"without_quirks is for criterion 'authors', the criterion is {self.criterion!r}"
            )
        by_name = self.criterion == AUTHORS and "biases" not in self.without_quirks
        if by_name and self.include is not None:
            raise SettingError(
                f"include is {self.include!r}, and criterion 'authors' finds weights by names of "
                "its own: leave include out, or the quirk 'biases'"
            )
        if self.criterion == AUTHORS and (self.scope != "global" or self.minimum_kept):
            raise SettingError(
                "criterion 'authors' ranks all weights together: leave scope and minimum_kept out"
            )
        if self.radius is not None and self.criterion != TRUST_REGION:
            raise SettingError(
                f"radius is {self.radius}, and the criterion {self.criterion!r}: only trust-region "
                "has one, leave it out"
            )
        self.pruning_scope()

    def resolved(self, recipe: "Recipe", rows: int) -> "Settings":
        """With everything filled in that depends on the task, its rows, and the criterion."""
        batch_size = self.batch_size or recipe.batch_size
        steps = self.steps
        if steps is None:
            steps = (self.epochs or recipe.epochs) * max(rows // batch_size, 1)
        from pins.pruning.schedules import paper_phases

        warmup, cooldown = paper_phases(steps)
        every = self.evaluate_every or max(steps // EVALUATIONS, 1)
        criterion = None if self.criterion == AUTHORS else self.pruning_criterion()
        return replace(
            self,
            smoothing=self.smoothing if criterion is None else self.pruning_smoothing(),
            radius=getattr(criterion, "radius", None),
            epochs=None,
            steps=steps,
            batch_size=batch_size,
            learning_rate=self.learning_rate or recipe.learning_rate,
            max_length=self.max_length or recipe.max_length,
            warmup=warmup if self.warmup is None else self.warmup,
            cooldown=cooldown if self.cooldown is None else self.cooldown,
            evaluate_every=every,
            checkpoint_every=self.checkpoint_every or every,
        )

    def pruning_criterion(self) -> "Criterion":
        """The criterion, where it is none of a whole method."""
        from pins.importance.criteria import find_criterion
        from pins.importance.trust_region.criterion import TrustRegion

        criterion = find_criterion(self.criterion)
        if self.radius is not None and isinstance(criterion, TrustRegion):
            return replace(criterion, radius=self.radius)
        return criterion

    def pruning_smoothing(self) -> str:
        """What was asked for, or the default of the criterion."""
        from pins.importance.smoothing import default_smoothing

        return self.smoothing or default_smoothing(self.pruning_criterion())

    def pruning_scope(self) -> "Scope":
        """The scope of each decision."""
        from pins.selection.allocation import Scope

        return Scope(by_tensor=self.scope == "tensor", minimum_kept=self.minimum_kept)

    def pruning_schedule(self) -> "Schedule":
        """The schedule, once it is resolved.

        Raises:
            ScheduleError: it does not fit the steps.
        """
        from pins.pruning.schedules import schedule_of_run

        assert self.steps is not None
        assert self.warmup is not None
        assert self.cooldown is not None
        schedule = schedule_of_run(
            self.schedule,
            sparsity=self.sparsity,
            steps=self.steps,
            warmup=self.warmup,
            cooldown=self.cooldown,
            interval=self.interval,
        )
        if (late := schedule.last - self.steps) > 0:
            raise ScheduleError(
                f"warm-up {self.warmup} leaves no step to prune in {self.steps}: {late} too many"
            )
        return schedule

    def as_json(self) -> dict[str, Any]:
        """JSON values by name."""
        values = asdict(self)
        return {**values, "data": None if self.data is None else str(self.data)}


POSITIVE = (
    "interval", "epochs", "steps", "batch_size", "accumulation", "max_length", "train_rows",
    "test_rows", "evaluate_every", "checkpoint_every",
)  # fmt: skip
NOT_NEGATIVE = ("warmup", "cooldown", "seed", "weight_decay")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, by the names of `Settings`.

    Raises:
        SettingError: no such file, not TOML, a name that is none, a value of another type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no TOML: {error}") from error
    names = [field.name for field in fields(Settings)] + ["out"]
    if unknown := [name for name in values if name not in names]:
        raise SettingError(
            f"{path} sets {unknown[0]!r}, which is no setting: they are {', '.join(names)}"
        )
    return {name: _typed(path, name, value) for name, value in values.items()}


def _typed(path: Path, name: str, value: Any) -> Any:
    """A TOML value as the setting's type: strings for paths, whole numbers for ratios will do."""
    wanted = Path if name == "out" else get_type_hints(Settings)[name]
    kinds = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    if name == "without_quirks":
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
    elif Path in kinds and isinstance(value, str):
        return Path(value)
    elif isinstance(value, bool):
        if bool in kinds:
            return value
    elif float in kinds and isinstance(value, int | float):
        return float(value)
    elif isinstance(value, tuple(kind for kind in kinds if kind in (int, str))):
        return value
    raise SettingError(f"{path}: {name} is {value!r}, which is not {_words(kinds)}")


def _words(kinds: tuple[type, ...]) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    words |= {str: "a text", Path: "a text"}
    names = [words.get(kind, "a list of texts") for kind in kinds if kind is not type(None)]
    return " or ".join(names)
