"""The settings of a run of `pins prune`: names, defaults, checks, and TOML files.

Importing this module loads neither torch nor numpy, so `pins prune --help` is quick: the names of
the registries are written out here, and the tests compare them with the registries.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_origin, get_type_hints

from pins.errors import FileError, ScheduleError, SettingError, first_line
from pins.models.demo_model import DEMO_MODEL
from pins.utils.setting_checks import require_chosen, require_least
from pins.utils.text_files import read_text, shown

if TYPE_CHECKING:
    from fractions import Fraction

    from pins.importance.criterion import Criterion
    from pins.pruning.schedules import Schedule
    from pins.selection.allocation import Allocation
    from pins.tasks.task import Recipe

AUTHORS = "authors"  # not a criterion but a whole method: the behaviour of the released code
TRUST_REGION = "trust-region"
SPARSITY = 0.8  # by default, without a pattern
RENAMED = {"minimum_kept": "layer_minimum"}  # settings of earlier versions
MOST = 1e30  # of another number: float32 holds it, and somewhat more
EVALUATIONS = 20  # of a run, by default

# the names in the tables of criteria, schedules, smoothings and curvatures, as a test asserts:
# literals, so that options and their help need none of the tables
CHOICES: Mapping[str, tuple[str, ...]] = {
    "criterion": (
        "pins", "abs-pins", "magnitude", "sensitivity", "movement", "obd", TRUST_REGION, AUTHORS,
    ),
    "schedule": ("cubic", "linear", "one-shot"),
    "smoothing": ("none", "window", "average", "uncertainty"),
    "curvature": ("adam", "fisher", "hutchinson"),
    "scope": ("global", "tensor", "row"),
    "optimizer": ("adamw", "sgd"),
}  # fmt: skip
DERIVED = ("smoothing", "curvature")  # None: derived from the criterion and the optimiser
WINDOWED = ("average", "uncertainty")  # smoothings with a window, if `window` is set
MINIMUM: Mapping[str, int] = {
    **dict.fromkeys(
        ("interval", "epochs", "steps", "batch_size", "accumulation", "max_length", "train_rows",
         "test_rows", "evaluate_every", "checkpoint_every"), 1,
    ),
    **dict.fromkeys(("warmup", "cooldown", "seed", "weight_decay"), 0),
}  # fmt: skip
POSITIVE = ("learning_rate", "temperature", "radius")
# by type of a setting: the types of its values in TOML, and their name in a message
TOML_TYPES: Mapping[Any, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    str: (str, "a text"),
    Path: (str, "a text"),
    tuple: (list, "a list of texts"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to prune, on which task, and how; the same names on the command line and in a file.

    The defaults are the paper's recipe for RTE (20 epochs of 16 rows, AdamW at 3e-5, a decision
    every 10 steps, 200 of 3,120 steps of warm-up, six times as many of cool-down, keep 20 %), with
    the score and the averages of its released code but without its defects: k is exact, pruned
    weights stay zero, averages are unbiased, the divergence is a true divergence. Each task has its
    own recipe for what depends on it.

    Attributes:
        model: a folder, or an id on the Hugging Face hub.
        task: what the model learns and is judged by: rte, mrpc, stsb, cola, sst2, qnli, qqp, mnli,
            squad, ner, e2e, triples, wikitext, text or stdlib-docs.
        data: folder with the task's original files; default: the hub.
        sparsity: final ratio of zeros among the prunable weights; default: 0.8, or 1 − N/M of a
            pattern.
        criterion: what ranks the weights; authors is the released code as a whole, with its
            defects.
        without_quirks: quirks that the criterion authors leaves out, by their names in
            `pins.pruning.authors.Quirks`.
        smoothing: how scores are averaged over the steps; authors has its own way; default:
            uncertainty, but none for trust-region, which reads averages.
        window: take the mean of the scores between two decisions first, and average these means,
            as PLATON does; for average and uncertainty.
        curvature: the estimate of the curvature of the loss; default: adam, fisher with another
            optimizer.
        radius: share of the loss that trust-region may predict to remove, divided among the
            remaining steps; default: 0.5.
        measure: measure how each decision changes the loss on the rows of its step; trust-region
            always does.
        schedule: how sparsity grows.
        warmup: steps before the first decision; default: 200/3120 of the run.
        cooldown: steps at the final sparsity; default: six times 200/3120 of the run.
        interval: ΔT, steps from one decision to the next.
        scope: rank all weights together (global), or keep the same ratio of each tensor (tensor) or
            of each row, the weights of one output (row).
        layer_minimum: smallest ratio of each tensor to keep.
        layer_maximum: largest ratio of each tensor to keep.
        pattern: exactly N of each M consecutive inputs of an output are kept, as in 2:4, or at most
            N with a sparsity; transposable-N:M: also of each M outputs of an input; default: none.
        skip_indivisible: keep all weights of a tensor that M does not divide, which is an error
            otherwise.
        block: outputs and inputs of blocks that are kept or pruned whole, such as 1x4; default:
            single weights.
        revive_zeros: treat the zeros that the model starts with as any other weights, so that the
            schedule starts at 0; default: they stay zero, and the schedule starts at their ratio.
        keep_zeros: prune no further than the model is: its only decision, after the warm-up, keeps
            all weights that are not zero.
        include: regular expression for the names of the weights to prune; default: all linear
            layers except the head.
        self_regularization: mix the loss with the divergence from the latest best checkpoint.
        teacher: a dense fine-tuned model to start self-regularisation from; default: the model.
        temperature: temperature T of that divergence.
        epochs: passes over the training rows; default: the task's.
        steps: optimiser steps, instead of epochs.
        batch_size: rows of a step, divided among the processes; default: the task's.
        accumulation: number of microbatches of a step; more need less memory.
        optimizer: the optimiser.
        learning_rate: the highest learning rate; default: the task's.
        weight_decay: the weight decay of the optimiser; biases and norms have none.
        decay_all: apply the weight decay to biases and norms too.
        max_length: largest number of tokens in a row; default: the task's.
        train_rows: number of training rows to use, drawn with the seed; default: all.
        test_rows: number of test rows to use, drawn with the seed; default: all.
        evaluate_every: steps from one evaluation on held-out training rows to the next; default: a
            twentieth of the run.
        keep_inputs: keep what the final decision reads, weights, gradient and the like, so that the
            certificate proves the scores too; not of smoothed scores.
        checkpoint_every: steps from one checkpoint to the next; default: as evaluations.
        seed: seed of all random numbers.
        device: where to compute: cuda (one for each process), mps or cpu; default: the first that
            is available.
        precision: of matrix products: float32, bfloat16 or float16; default: bfloat16 if CUDA has
            it, else float32.
        compile: compile the model first, with `torch.compile`.
        gradient_checkpointing: recompute activations in the backward pass, to save memory.
    """

    model: str = DEMO_MODEL
    task: str = "stdlib-docs"
    data: Path | None = None
    sparsity: float | None = None
    criterion: str = "abs-pins"
    without_quirks: tuple[str, ...] = ()
    smoothing: str | None = None
    window: bool = False
    curvature: str | None = None
    radius: float | None = None
    measure: bool = True
    schedule: str = "cubic"
    warmup: int | None = None
    cooldown: int | None = None
    interval: int = 10
    scope: str = "global"
    layer_minimum: float = 0.0
    layer_maximum: float = 1.0
    pattern: str | None = None
    skip_indivisible: bool = False
    block: str | None = None
    revive_zeros: bool = False
    keep_zeros: bool = False
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
    decay_all: bool = False
    max_length: int | None = None
    train_rows: int | None = None
    test_rows: int | None = None
    evaluate_every: int | None = None
    keep_inputs: bool = False
    checkpoint_every: int | None = None
    seed: int = 0
    device: str | None = None
    precision: str | None = None
    compile: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        require_chosen(self, CHOICES, DERIVED)
        require_least(self, MINIMUM)
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value <= MOST:
                raise SettingError(
                    f"{name} is {value}: it is a number greater than 0 and at most {MOST:g}"
                )
        if self.epochs is not None and self.steps is not None:
            raise SettingError(f"epochs is {self.epochs} and steps {self.steps}: give one of them")
        if self.without_quirks and self.criterion != AUTHORS:
            raise SettingError(
                f"without_quirks is for criterion 'authors', the criterion is {self.criterion!r}"
            )
        by_name = self.criterion == AUTHORS and "biases" not in self.without_quirks
        if by_name and self.include is not None:
            raise SettingError(
                f"include is {self.include!r}, but criterion 'authors' selects weights by its own "
                "names: leave include out, or the quirk 'biases'"
            )
        allocation = self.pruning_allocation()
        if self.keep_zeros:
            self._require_no_choice(allocation)
        allocation.require_final(self.final_sparsity())
        if self.criterion == AUTHORS and vars(allocation) != vars(type(allocation)()):
            raise SettingError(
                "criterion 'authors' ranks all weights together: leave scope, bounds, pattern and "
                "block out"
            )
        own_adamw = self.criterion == AUTHORS and "adamw" not in self.without_quirks
        if own_adamw and self.optimizer != "adamw":
            raise SettingError(
                f"optimizer is {self.optimizer!r}, but criterion 'authors' has its own AdamW: "
                "leave optimizer out, or the quirk 'adamw'"
            )
        if self.criterion == AUTHORS and self.revive_zeros:
            raise SettingError(
                "criterion 'authors' revives zeros by its quirk 'dense_start': leave revive_zeros "
                "out"
            )
        if self.radius is not None and self.criterion != TRUST_REGION:
            raise SettingError(
                f"radius is {self.radius}, and the criterion {self.criterion!r}: only trust-region "
                "has one, leave it out"
            )
        if self.window and (self.criterion == AUTHORS or self.pruning_smoothing() not in WINDOWED):
            raise SettingError(
                "window is for smoothing average and uncertainty: leave it out with others, and "
                "with criterion 'authors', which has averages of its own"
            )

    def _require_no_choice(self, allocation: "Allocation") -> None:
        chosen = {
            "sparsity": self.sparsity is not None,
            "revive_zeros": self.revive_zeros,
            "scope, bounds, pattern and block": vars(allocation) != vars(type(allocation)()),
            f"criterion {self.criterion!r}": self.criterion in (AUTHORS, TRUST_REGION),
        }
        for name, given in chosen.items():
            if given:
                raise SettingError(
                    f"keep_zeros takes the mask that the model has: leave {name} out"
                )

    def resolved(self, recipe: "Recipe", rows: int) -> "Settings":
        """Fill in what depends on the task, on its number of training rows, and on the criterion.

        The result is a fixed point: resolving it again changes nothing.
        """
        from pins.pruning.schedules import paper_phases

        batch_size = self.batch_size or recipe.batch_size
        steps = self.steps
        if steps is None:
            steps = (self.epochs or recipe.epochs) * max(rows // batch_size, 1)

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
        """The criterion; not for "authors", which is a whole method."""
        from pins.importance.criteria import find_criterion
        from pins.importance.trust_region.criterion import TrustRegion

        if self.radius is not None:  # then the criterion is trust-region
            return TrustRegion(radius=self.radius)
        return find_criterion(self.criterion)

    def pruning_smoothing(self) -> str:
        """The chosen smoothing, or the default of the criterion."""
        from pins.importance.smoothing import default_smoothing

        return self.smoothing or default_smoothing(self.pruning_criterion())

    def pruning_allocation(self) -> "Allocation":
        """The allowed masks of each decision, apart from their number of ones."""
        from pins.selection.allocation import Allocation

        return Allocation.parse(
            counted=self.sparsity is not None,
            scope=self.scope,
            layer_minimum=self.layer_minimum,
            layer_maximum=self.layer_maximum,
            pattern=self.pattern,
            skip_indivisible=self.skip_indivisible,
            block=self.block,
        )

    def final_sparsity(self, start: "Fraction | int" = 0) -> "float | Fraction":
        """The sparsity asked for, or 1 − N/M of a pattern by itself, or the default.

        Args:
            start: the ratio of zeros that the model has; the result with `keep_zeros`.
        """
        if self.keep_zeros:
            return start
        if self.sparsity is not None:
            return self.sparsity
        own = self.pruning_allocation().sparsity
        return SPARSITY if own is None else own

    def pruning_schedule(self, start: "Fraction | int" = 0) -> "Schedule":
        """The schedule of resolved settings, for a model with the ratio `start` of zeros.

        Raises:
            ScheduleError: the phases are longer than the run.
        """
        from pins.pruning.schedules import schedule_of_run

        assert self.steps is not None
        assert self.warmup is not None
        assert self.cooldown is not None
        schedule = schedule_of_run(
            "one-shot" if self.keep_zeros else self.schedule,
            sparsity=self.final_sparsity(start),
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
        values = {**asdict(self), "data": None if self.data is None else str(self.data)}
        if self.keep_zeros:
            values["schedule"] = "one-shot"
        elif self.sparsity is None and self.pattern is None:
            values["sparsity"] = SPARSITY
        return values


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, by the field names of `Settings`; and "out", the folder.

    Raises:
        SettingError: the file cannot be read, is not TOML, has an unknown name, or a value of
            another type.
    """
    try:
        values = tomllib.loads(read_text(path))
    except FileError as error:
        raise SettingError(str(error)) from error
    except (ValueError, RecursionError) as error:  # also of integers with too many digits
        raise SettingError(f"{path} is not TOML: {first_line(error)}") from error
    for old in values.keys() & RENAMED.keys():
        raise SettingError(f"{path} sets {old}, which is called {RENAMED[old]} now: give that")
    names = [*(field.name for field in fields(Settings)), "out"]
    if unknown := [name for name in values if name not in names]:
        raise SettingError(
            f"{path} sets {shown(unknown[0])}, which is not a setting: give one of "
            f"{', '.join(names)}"
        )
    hints = {**get_type_hints(Settings), "out": Path}
    return {name: _typed(path, name, value, hints[name]) for name, value in values.items()}


def _typed(path: Path, name: str, value: Any, hint: Any) -> Any:
    """A TOML value in the type of its setting: a text as path, a whole number as ratio."""
    kind = get_args(hint)[0] if isinstance(hint, UnionType) else get_origin(hint) or hint
    given, words = TOML_TYPES[kind]
    fits = isinstance(value, given) and isinstance(value, bool) == (kind is bool)
    if kind is tuple:
        fits = fits and all(isinstance(each, str) for each in value)
    if isinstance(value, str):
        fits = fits and "\0" not in value  # no name of a file has one
    try:
        return kind(value) if fits else _no_value(path, name, value, words)
    except OverflowError:  # an integer beyond the floats
        return _no_value(path, name, value, words)


def _no_value(path: Path, name: str, value: Any, words: str) -> NoReturn:
    raise SettingError(f"{path}: {name} is {shown(value)}, which is not {words}")
