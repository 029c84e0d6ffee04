"""The settings of `pins oneshot`: names, defaults, checks. Loads neither torch nor numpy."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pins.errors import SettingError
from pins.utils.setting_checks import require_chosen, require_least
from pins.utils.text_files import shown

if TYPE_CHECKING:
    from fractions import Fraction

    from pins.oneshot.level import Level
    from pins.selection.allocation import Allocation

SPARSITY = 0.5  # by default, without a pattern
MOST = 1e30  # of a learning rate: float32 holds it, and somewhat more
PINS = "pins"
CHOICES = {
    # as a test asserts, the registry's
    "method": (
        "magnitude", "wanda", "ria", "sparsegpt", "alps", "obs", PINS, "sensitivity", "obd",
        "trust-region",
    ),
    "scope": ("global", "tensor", "row"),
    "format": ("dense", "sparse-bitmask"),
}  # fmt: skip
LEVELS = ",".join(f"{number / 10:g}" for number in range(10))
COSTS = ("bytes", "flops")
MINIMUM = {"calibration": 1, "length": 2, "stride": 1, "test_windows": 1, "seed": 0}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to prune in one shot, by which text, and how.

    Attributes:
        model: a folder, or an id on the Hugging Face hub: a causal language model.
        task: whose training text calibrates and whose test text judges: wikitext, text or
            stdlib-docs.
        data: folder or file with the task's text; default: the hub.
        method: how a layer is pruned; pins, sensitivity, obd and trust-region need the whole model
            and its gradients in memory.
        learning_rate: η of a step of gradient descent that the scores of pins look ahead, and that
            is not taken; default: 0.
        sparsity: ratio of zeros; default: 0.5, or 1 − N/M of a pattern.
        scope: rank the weights of each row, the weights of one output (row), of each matrix
            (tensor), or of all of them (global), which the methods by gradients alone can.
        pattern: exactly N of each M consecutive inputs of an output are kept, as in 2:4, or at most
            N with a sparsity; default: none.
        skip_indivisible: keep all weights of a matrix that M does not divide, which is an error
            otherwise.
        refit: afterwards, fit the kept weights of each layer to its dense output again.
        swaps: afterwards, exchange a kept and a pruned weight of a row as long as that lowers the
            error, then refit.
        levels: first measure what each layer loses at each of these sparsities and patterns, from
            what it reads in the dense model, as in 0,0.5,2:4; default with a budget: 0,0.1,…,0.9.
        budget: choose the level of each layer so that the sum of the relative errors is least
            within a budget: bytes=0.6 is a share of the layers' bytes, flops=0.5 of their products;
            default: all layers have one sparsity.
        calibration: number of windows to calibrate on.
        length: tokens of a window.
        stride: tokens from one test window to the next; default: the length, so that none overlap.
        test_windows: at most so many windows of the test text are scored.
        seed: seed of the calibration windows.
        device: where to compute: cuda, mps or cpu; default: the first that is available.
        format: of the pruned weights on the disk: as any others, or a bit a weight and the kept
            values, which pins unpack and some versions of compressed-tensors read.
    """

    model: str
    task: str = "stdlib-docs"
    data: Path | None = None
    method: str = "wanda"
    learning_rate: float | None = None
    sparsity: float | None = None
    scope: str = "row"
    pattern: str | None = None
    skip_indivisible: bool = False
    refit: bool = False
    swaps: bool = False
    levels: str | None = None
    budget: str | None = None
    calibration: int = 32
    length: int = 512
    stride: int | None = None
    test_windows: int | None = 64
    seed: int = 0
    device: str | None = None
    format: str = "dense"

    def __post_init__(self) -> None:
        require_chosen(self, CHOICES)
        require_least(self, MINIMUM)
        if self.stride is not None and self.stride > self.length:
            raise SettingError(
                f"stride is {self.stride} and length {self.length}: tokens between two windows "
                "would not be scored; give a stride of at most the length"
            )
        rate = self.learning_rate
        if rate is not None and (self.method != PINS or not 0 <= rate <= MOST):
            raise SettingError(
                f"learning_rate is {rate}, and the method {self.method!r}: pins alone looks a step "
                f"ahead, at a rate of at least 0 and at most {MOST:g}"
            )
        if self.budget is not None and (self.sparsity, self.pattern) != (None, None):
            raise SettingError(
                f"the budget is {shown(self.budget)}, and the sparsity {self.sparsity} or the "
                f"pattern {self.pattern}: a budget chooses among levels; leave the others out"
            )
        self.parsed_levels()
        self.allocation().require_final(self.final_sparsity())

    def allocation(self) -> "Allocation":
        """The masks allowed; a pattern alone says the count of each group."""
        from pins.selection.allocation import Allocation

        alone = self.pattern is not None and self.sparsity is None
        return Allocation.parse(
            counted=not alone,
            pattern=self.pattern,
            skip_indivisible=self.skip_indivisible
            and (self.pattern is not None or self.levels is None),
            scope="global" if alone else self.scope,
        )

    def final_sparsity(self) -> "Fraction":
        """1 − kept ratio, exactly as it is written in decimals."""
        from pins.selection.constraints import exact_ratio

        own = self.allocation().sparsity
        if own is not None:
            return own
        return exact_ratio(SPARSITY if self.sparsity is None else self.sparsity)

    def level(self) -> "Level":
        """The masks that each layer may have, without a budget."""
        from pins.oneshot.level import Level

        return Level(self.allocation(), self.final_sparsity())

    def parsed_levels(self) -> "dict[str | float, Level]":
        """The levels that are measured, by what an error table calls them; none by default.

        Raises:
            SettingError: one is no level, or is there twice; the budget is of another form.
        """
        if self.budget is not None:
            from pins.selection.budget.spec import Budget

            asked = Budget.parse(self.budget)
            if asked.cost not in COSTS:
                raise SettingError(
                    f"the budget is of {shown(asked.cost)}, and a run knows {' and '.join(COSTS)}: "
                    "for another cost add it to error-table.json, and ask pins budget"
                )
        elif self.levels is None:
            return {}
        from pins.oneshot.level import Level

        if self.scope == "global":
            raise SettingError("levels are of each row or tensor: leave --scope global out")
        found: dict[str | float, Level] = {}
        for text in (self.levels or LEVELS).split(","):
            level = Level.parse(text.strip(), self.scope, skip_indivisible=self.skip_indivisible)
            if level.name in found:
                raise SettingError(f"the level {shown(text)} is there twice: leave one out")
            found[level.name] = level
        return found

    def as_json(self) -> dict[str, Any]:
        """The settings by name."""
        return {**asdict(self), "data": None if self.data is None else str(self.data)}
