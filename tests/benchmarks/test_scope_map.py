import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness.fine_tuned import FineTuned
from benchmarks.harness.results import read
from benchmarks.scope_map import driver
from benchmarks.scope_map.driver import Decisions, Point, points
from benchmarks.scope_map.table import table
from pins.errors import FileError, SettingError, TaskError
from pins.importance.criteria import CRITERIA
from tests.benchmarks.started import SmallBenchmark, interrupted, rendered_again, start
from tests.pins.runs.tiny_runs import save_data
from verification.experiments.loss_change import STEP_ALONE

pytest.importorskip("transformers", reason="the runs are of transformers models")

SMALL: dict[str, Any] = {
    "task": "sst2",
    "seeds": 1,
    "learning_rates": "1e-3",
    "progress": "0,1,2",
    "fractions": "0.5",
    "rows": 8,
    "fisher_rows": 4,
}
PLANNED = points(1, (1e-3,), (0, 1, 2))


def small(folder: Path) -> SmallBenchmark:
    return SmallBenchmark(driver, folder, "scope_map-sst2.json", **SMALL)


@pytest.fixture
def place(tmp_path: Path) -> SmallBenchmark:
    return small(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of a run that nothing interrupted."""
    rows: list[dict[str, Any]] = small(tmp_path_factory.mktemp("whole")).run()["rows"]
    return rows


REAL = driver.measure


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    """The points that were measured, each of them really."""
    started: list[Point] = []

    def counted(tuned: FineTuned, point: Point, decisions: Decisions) -> list[dict[str, Any]]:
        started.append(point)
        return REAL(tuned, point, decisions)

    monkeypatch.setattr(driver, "measure", counted)
    return started


def test_every_point_leaves_a_row_for_every_criterion_and_fraction(
    place: SmallBenchmark, tmp_path: Path
) -> None:
    """As it is started from the command line."""
    given = {**SMALL, "learning_rates": "1e-3,2e-3", "progress": "0,2", "fractions": "0.5,0.01"}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    start("scope_map", *options, *place.folders, out=place.out)
    document = read(place.file)
    names = ("seed", "learning_rate", "progress", "criterion", "fraction")
    keys = [tuple(row[name] for name in names) for row in document["rows"]]
    each = [(STEP_ALONE, 0.0), *itertools.product(CRITERIA, (0.01, 0.5))]
    planned = points(1, (1e-3, 2e-3), (0, 2))
    assert keys == [(p.seed, p.learning_rate, p.progress, *key) for p in planned for key in each]
    losses = [
        {row["loss"] for row in document["rows"] if asdict(point).items() <= row.items()}
        for point in planned
    ]
    assert losses[0] == losses[2]  # no step was taken
    assert len(set.union(*losses)) == 3
    for fraction in (0.01, 0.5):
        assert len({r["pruned"] for r in document["rows"] if r["fraction"] == fraction}) == 1
    assert {row["task"] for row in document["rows"]} == {"sst2"}
    assert str(tmp_path) not in place.file.read_text()
    shown = document["provenance"]["command"]
    assert shown.startswith("python -m benchmarks.scope_map --task=sst2 --seeds=1")
    assert shown.endswith("--data DATA --model=a-model --out OUT")
    settings = document["settings"]
    assert (settings["rows"], settings["fisher_rows"], settings["batch"]) == (8, 4, 16)
    assert settings["step_learning_rate"] == 0.01


@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupted_benchmark_goes_on_to_the_same_numbers(
    place: SmallBenchmark, measured: list[Point], whole: list[dict[str, Any]], after: int
) -> None:
    with interrupted(driver, after):
        place.run()
    before = read(place.file)["rows"]
    assert before == whole[: len(before)]
    assert place.run()["rows"] == whole
    assert measured == PLANNED


def test_a_measurement_that_leaves_traces_would_be_found(
    place: SmallBenchmark, monkeypatch: pytest.MonkeyPatch, whole: list[dict[str, Any]]
) -> None:
    def drawing(tuned: FineTuned, point: Point, decisions: Decisions) -> list[dict[str, Any]]:
        found = REAL(tuned, point, decisions)
        torch.rand(1)  # of the numbers that dropout would have drawn
        return found

    monkeypatch.setattr(driver, "measure", drawing)
    rows = place.run()["rows"]
    first = len(whole) // len(PLANNED)
    assert rows[:first] == whole[:first]
    assert rows[first:] != whole[first:]


def test_fine_tuning_is_done_once_for_all_its_points(
    place: SmallBenchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    class Counted(FineTuned):
        def advance(self, steps_: int) -> None:
            steps.append(steps_ - self.steps)
            super().advance(steps_)

    monkeypatch.setattr(driver, "FineTuned", Counted)
    place.run(learning_rates="1e-3,2e-3", progress="0,1,3")
    assert steps == [0, 1, 2, 1, 2]  # the second learning rate has no point to measure at 0


def test_another_seed_and_another_stop_are_added(
    place: SmallBenchmark, measured: list[Point], whole: list[dict[str, Any]]
) -> None:
    place.run(progress="2")
    rows = place.run(progress="1,2", seeds=2)["rows"]
    assert measured == [Point(0, 1e-3, 2), Point(0, 1e-3, 1), Point(1, 1e-3, 1), Point(1, 1e-3, 2)]
    for row in rows:
        assert row["seed"] == 1 or row in whole


def test_no_point_is_started_when_the_time_is_over(
    place: SmallBenchmark, measured: list[Point], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileError, match=r"holds no scope_map-sst2\.json: measure first"):
        place.run(minutes=0.0)
    place.run(progress="0")
    place.run(minutes=0.0)
    assert len(measured) == 1
    assert "0 minutes are over: 2 runs are left" in capsys.readouterr().out


def test_results_of_other_settings_or_data_are_not_overwritten(place: SmallBenchmark) -> None:
    place.run(progress="0")
    text = place.file.read_text()
    for other in ({"rows": 9}, {"fractions": "0.5,0.6"}, {"fisher_rows": 3}):
        with pytest.raises(FileError, match="holds results of other settings: move it"):
            place.run(**other)
    save_data(place.data / "glue" / "SST-2", rows=61)
    with pytest.raises(FileError, match="holds results of other settings: move it"):
        place.run(seeds=2)
    assert place.file.read_text() == text


def test_tables_and_figure_are_made_from_the_results_file_alone(place: SmallBenchmark) -> None:
    place.run(progress="0")
    before = rendered_again(driver, place.file, "md", "svg", task="sst2")
    assert all(f"| {name} |" in before["md"] for name in CRITERIA)
    assert all(f">{name}<" in before["svg"] for name in CRITERIA)


def test_what_makes_no_sense_is_refused_before_anything_is_run(
    place: SmallBenchmark, measured: list[Point]
) -> None:
    for name, wrong in (
        ("fractions", ("0", "1", "0.5,x", "", "nan")),
        ("learning_rates", ("0", "-1", "inf", "nan")),
        ("progress", ("-1", "1.5", "")),
    ):
        for text in wrong:
            with pytest.raises(SettingError, match=f"{name.replace('_', ' ')} is '{text}': give"):
                place.run(**{name: text})
    with pytest.raises(TaskError, match="there is no task 'sst3'"):
        place.run(task="sst3")
    assert not measured
    place.out.mkdir()
    place.file.write_text('{"rows": []}')
    with pytest.raises(FileError, match="holds no rows yet: measure first"):
        driver.run(task="sst2", out=place.out, render_only=True)


def test_stopping_early_leaves_whole_comparisons() -> None:
    planned = points(2, (5e-5, 2e-4), (0, 130, 260))
    assert len(set(planned)) == len(planned) == 12
    keys = [(point.seed, point.learning_rate, point.progress) for point in planned]
    assert keys == sorted(keys)


def document(seeds: int, **given: Any) -> dict[str, Any]:
    """On the gradient's rows all seeds agree; on unseen ones magnitude differs over seeds."""
    changes = {
        "pins": {0.01: -0.05, 0.5: 3.0},
        "obd": {0.01: -0.01, 0.5: 0.10},
        "magnitude": {0.01: -0.02, 0.5: 0.11},
        "sensitivity": {0.01: -0.01, 0.5: 0.3},
    }
    rows = [
        {
            "seed": seed,
            "learning_rate": 5e-5,
            "progress": 130,
            "loss": 0.4,
            "loss_unseen": 0.5,
            "criterion": name,
            "fraction": fraction,
            "measured": change,
            "measured_unseen": change + (0.015 * (-1) ** (seed + 1) if name == "magnitude" else 0),
        }
        for seed in range(seeds)
        for name, cells in ({STEP_ALONE: {0.0: -0.015}} | changes).items()
        for fraction, change in cells.items()
    ]
    made = {"command": "c", "date": "d", "python": "3", "versions": {}}
    machine = {"processor": "p", "cores": 2, "torch_threads": 1}
    settings = {
        "task": "sst2",
        "model": "m",
        "batch": 16,
        "max_length": 64,
        "step_learning_rate": 0.01,
        "rows": 128,
        "fisher_rows": 64,
    }
    return {
        "settings": settings,
        "provenance": {**made, "machine": machine},
        "rows": rows + given.get("more", []),
    }


def test_bold_is_what_the_seeds_tell() -> None:
    text = table(document(2))
    unseen, gradient = text.split("## The criterion with the lowest loss on ")[1:]
    assert "| 1 % | pins −0.05 |\n| 50 % | obd +0.1 |" in unseen
    assert "| 1 % | **pins** −0.05 |\n| 50 % | **obd** +0.1 |" in gradient
    assert "| 1 % | pins | −0.05 ± 0 | magnitude +0.03 ± 0.19 | magnitude | **pins** |" in text
    assert "Bold: the 95% interval of second best − best" in text


def test_one_seed_makes_nothing_bold_and_gives_no_interval() -> None:
    text = table(document(1))
    assert "**" not in text
    assert "±" not in text
    assert "One seed: no interval can be given" in text
    assert "| 1 % | pins | −0.05 | magnitude +0.015 | – | pins | −0.05 | magnitude +0.03 |" in text
    assert "| pins | 1 % (–) |" in text


def test_the_crossover_table_says_how_far_each_criterion_reaches() -> None:
    text = table(document(3))
    _, unseen, gradient = text.split("## The largest fraction at which a criterion")
    both = "| pins more than magnitude and sensitivity "
    assert "| pins | 1 % (1 %) |" in unseen
    assert "| obd | none |" in unseen
    assert "| magnitude | 1 % (–) |" in unseen
    assert f"{both}| 1 % (–) |" in unseen
    assert "| magnitude | 1 % (1 %) |" in gradient
    assert f"{both}| 1 % (1 %) |" in gradient


def test_fewer_seeds_at_some_points_are_owned_up_to() -> None:
    more = [{**row, "progress": 260} for row in document(1)["rows"]]
    assert "Some points have fewer seeds than others" in table(document(2, more=more))
    assert "Some points have fewer seeds than others" not in table(document(2))
