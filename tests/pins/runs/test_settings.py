"""Settings: one set of names for the command line, files and code; wrong ones named in a line."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pins
from pins.errors import CardinalityError, ScheduleError, SettingError
from pins.importance.criteria import CRITERIA
from pins.importance.curvature.sources import CURVATURES
from pins.importance.smoothing import SMOOTHINGS
from pins.importance.trust_region.criterion import TrustRegion
from pins.models.pretrained import DEMO_MODEL
from pins.pruning.schedules import SCHEDULES, CubicSchedule, LinearSchedule, OneShotSchedule
from pins.runs.settings import AUTHORS, CHOICES, TRUST_REGION, Settings, read_settings
from pins.tasks import Recipe

RECIPE = Recipe(epochs=20, batch_size=16, learning_rate=3e-5, max_length=128)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"criterion": "best"}, "criterion is 'best': choose one of pins, abs-pins"),
        ({"schedule": "quartic"}, "schedule is 'quartic': choose one of"),
        ({"smoothing": "x"}, "smoothing is 'x': choose one of none, window"),
        ({"scope": "layer"}, "scope is 'layer': choose one of global, tensor, row"),
        ({"optimizer": "lion"}, "optimizer is 'lion': choose one of adamw, sgd"),
        ({"steps": 0}, "steps is 0: it is at least 1"),
        ({"warmup": -1}, "warmup is -1: it is at least 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: it is a number greater than 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"learning_rate": 1e38}, "learning_rate is 1e.38: it is a .* greater than 0 and at most"),
        (
            {"temperature": 1e308},
            "temperature is 1e.308: it is a number greater than 0 and at most",
        ),
        ({"epochs": 2, "steps": 9}, "epochs is 2 and steps 9: give one of them"),
        ({"window": True, "smoothing": "none"}, "window is for smoothing average and uncertainty"),
        ({"window": True, "criterion": "trust-region"}, "leave it out with others"),
        ({"window": True, "criterion": "authors"}, "which has averages of its own"),
        ({"without_quirks": ("absolute",)}, "without_quirks is for criterion 'authors'"),
        ({"weight_decay": float("nan")}, "weight_decay is nan: it is at least 0"),
        ({"weight_decay": float("inf")}, "weight_decay is inf: it is at least 0"),
        (
            {"seed": 2**63},
            "seed is 9223372036854775808: it is at least 0 and at most 9223372036854775807",
        ),
        ({"criterion": "authors", "include": "query"}, "leave include out, or the quirk 'biases'"),
        ({"criterion": "authors", "optimizer": "sgd"}, "leave optimizer out, or the quirk 'adamw'"),
        ({"curvature": "exact"}, "curvature is 'exact': choose one of adam, fisher, hutchinson"),
        ({"radius": 0.5}, "radius is 0.5, and the criterion 'abs-pins': only trust-region has one"),
        (
            {"criterion": "trust-region", "radius": 0.0},
            "radius is 0.0: it is a number greater than",
        ),
        ({"keep_zeros": True, "sparsity": 0.5}, "the mask that the model has: leave sparsity out"),
        ({"keep_zeros": True, "revive_zeros": True}, "leave revive_zeros out"),
        ({"keep_zeros": True, "pattern": "2:4"}, "leave scope, bounds, pattern and block out"),
        ({"keep_zeros": True, "scope": "row"}, "leave scope, bounds, pattern and block out"),
        ({"keep_zeros": True, "criterion": "authors"}, "leave criterion 'authors' out"),
        ({"keep_zeros": True, "criterion": "trust-region"}, "leave criterion 'trust-region' out"),
    ],
)
def test_a_setting_that_makes_no_sense(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Settings(**given_)


def test_the_names_written_out_are_those_of_the_registries() -> None:
    assert CHOICES["criterion"] == (*CRITERIA, AUTHORS)
    assert CHOICES["schedule"] == tuple(SCHEDULES)
    assert CHOICES["smoothing"] == tuple(SMOOTHINGS)
    assert CHOICES["curvature"] == tuple(CURVATURES)
    assert TrustRegion.name == TRUST_REGION
    assert Settings().model == DEMO_MODEL


def test_settings_are_read_without_torch() -> None:
    # `pins` itself as an empty package: what it imports is not asked here
    code = (
        "import sys, types; pins = types.ModuleType('pins'); pins.__path__ = [sys.argv[1]]; "
        "sys.modules['pins'] = pins; import pins.runs.settings; "
        "assert not {'torch', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(pins.__file__).parent)], check=True)


def test_a_minimum_by_tensor_is_refused() -> None:
    with pytest.raises(
        CardinalityError, match="since the scope is tensor: leave one of the two out"
    ):
        Settings(scope="tensor", layer_minimum=0.1)


def test_the_defaults_are_the_papers_recipe_for_rte() -> None:
    resolved = Settings().resolved(RECIPE, 2490)
    assert resolved.steps == 20 * (2490 // 16) == 3100
    assert (resolved.batch_size, resolved.learning_rate) == (16, 3e-5)
    assert (resolved.warmup, resolved.cooldown) == (198, 1192)  # 200 and 1,200 of 3,120
    schedule = resolved.pruning_schedule()
    assert isinstance(schedule, CubicSchedule)
    assert schedule.sparsity(3100) == Fraction(4, 5)
    assert schedule.interval == 10


@given(st.integers(1, 10_000), st.sampled_from(["cubic", "linear"]))
def test_every_number_of_steps_has_a_schedule_that_fits(steps: int, name: str) -> None:
    schedule = Settings(steps=steps, schedule=name).resolved(RECIPE, 100).pruning_schedule()
    assert isinstance(schedule, LinearSchedule if name == "linear" else CubicSchedule)
    assert schedule.decides(schedule.last)
    assert schedule.last <= steps
    assert schedule.sparsity(schedule.last) == Fraction(4, 5)


@pytest.mark.parametrize(
    ("criterion", "smoothing", "radius"),
    [("abs-pins", "uncertainty", None), ("trust-region", "none", 0.5), ("authors", None, None)],
)
def test_what_the_criterion_says_is_filled_in(
    criterion: str, smoothing: str | None, radius: float | None
) -> None:
    resolved = Settings(criterion=criterion).resolved(RECIPE, 100)
    assert (resolved.smoothing, resolved.radius) == (smoothing, radius)
    assert resolved.resolved(RECIPE, 100) == resolved
    chosen = Settings(criterion=criterion, smoothing="window").resolved(RECIPE, 100)
    assert chosen.smoothing == "window"


def test_a_radius_is_that_of_the_criterion() -> None:
    settings = Settings(criterion="trust-region", radius=0.25).resolved(RECIPE, 100)
    assert settings.radius == 0.25
    assert settings.pruning_criterion() == TrustRegion(radius=0.25)
    assert Settings(criterion="trust-region").pruning_criterion() == TrustRegion()
    assert Settings(criterion="obd").pruning_criterion() is CRITERIA["obd"]


def test_one_shot_is_after_the_warm_up() -> None:
    schedule = Settings(steps=100, schedule="one-shot", warmup=7).resolved(RECIPE, 9)
    assert schedule.pruning_schedule() == OneShotSchedule(0.8, at=8)


@pytest.mark.parametrize("warmup", [10, 11])
def test_one_shot_needs_a_step_after_the_warm_up(warmup: int) -> None:
    settings = Settings(steps=10, schedule="one-shot", warmup=warmup).resolved(RECIPE, 9)
    with pytest.raises(ScheduleError, match=rf"no step to prune in 10: {warmup - 9} too many"):
        settings.pruning_schedule()
    last = Settings(steps=10, schedule="one-shot", warmup=9).resolved(RECIPE, 9)
    assert last.pruning_schedule().decides(10)


def test_the_authors_may_be_given_a_pattern_without_their_own() -> None:
    Settings(criterion="authors", include="query", without_quirks=("biases",))


def test_phases_that_do_not_fit_say_by_how_much() -> None:
    settings = Settings(steps=10, warmup=8, cooldown=5).resolved(RECIPE, 100)
    with pytest.raises(ScheduleError, match="4 too many"):
        settings.pruning_schedule()


def test_what_is_given_is_not_filled_in() -> None:
    given_ = Settings(steps=50, warmup=0, cooldown=3, batch_size=2, evaluate_every=7)
    resolved = given_.resolved(RECIPE, 100)
    assert (resolved.steps, resolved.warmup, resolved.cooldown) == (50, 0, 3)
    assert (resolved.batch_size, resolved.evaluate_every, resolved.checkpoint_every) == (2, 7, 7)
    assert resolved.resolved(RECIPE, 100) == resolved


def test_a_file_has_the_same_names(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'out = "here"\ntask = "rte"\ndata = "glue"\nsparsity = 1\nsteps = 5\n'
        'self_regularization = false\ncriterion = "authors"\nwithout_quirks = ["absolute"]\n'
        'measure = false\ncurvature = "fisher"\n'
    )
    values = read_settings(file)
    assert values.pop("out") == Path("here")
    settings = Settings(**values)
    assert settings.sparsity == 1.0
    assert settings.data == Path("glue")
    assert settings.without_quirks == ("absolute",)
    assert settings.self_regularization is False
    assert settings.measure is False
    assert settings.curvature == "fisher"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spersity = 0.8", "sets 'spersity', which is not a setting: give one of model, task"),
        ("sparsity = ", "is not TOML"),
        ('sparsity = "high"', "sparsity is 'high', which is not a number"),
        ("steps = 1.5", "steps is 1.5, which is not a whole number"),
        ("steps = true", "steps is True, which is not a whole number"),
        ("self_regularization = 1", "self_regularization is 1, which is not true or false"),
        ("model = 3", "model is 3, which is not a text"),
        ('without_quirks = "absolute"', "without_quirks is 'absolute', which is not a list"),
        ("steps = " + "9" * 5000, "is not TOML: Exceeds the limit"),
        ("steps = []\nmodel = " + "[" * 9000, "is not TOML: "),
        (f"learning_rate = {10**400}", r"learning_rate is 10{59}…, which is not a number\Z"),
        ("model = 0x" + "f" * 5000, "model is a very large int, which is not a text"),
        ('model = "a\\u0000"', r"model is 'a\\x00', which is not a text"),
        ('model = "a\0"', "line 1: a NUL, so this is no text"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(SettingError, match=message):
        read_settings(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        read_settings(tmp_path / "none.toml")
