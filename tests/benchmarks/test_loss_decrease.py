import json
from pathlib import Path

import pytest

from benchmarks.harness.benchmark import resume
from benchmarks.harness.results import read
from benchmarks.loss_decrease import driver
from benchmarks.loss_decrease.driver import REGION
from benchmarks.loss_decrease.instances import INSTANCES
from pins.errors import FileError, SettingError
from pins.importance.criteria import CRITERIA
from pins.utils.lookup import find
from tests.benchmarks.started import rendered_again, start
from tests.tiny_model import save_tiny_bert


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of the driver, on a tiny model, as anyone would start it."""
    pytest.importorskip("transformers", reason="the instances are transformers models")
    folder = tmp_path_factory.mktemp("results")
    model = save_tiny_bert(tmp_path_factory.mktemp("model"))
    start("loss_decrease", "--instance=smoke", "--seeds=2", f"--model={model}", out=folder)
    return folder


def test_a_run_leaves_a_row_for_every_seed_criterion_and_fraction(results: Path) -> None:
    document = json.loads((results / "loss_decrease-smoke.json").read_text())
    fractions = INSTANCES["smoke"].fractions
    assert len(document["rows"]) == 2 * (1 + len(CRITERIA) * len(fractions))
    for fraction in fractions:
        assert len({r["pruned"] for r in document["rows"] if r["fraction"] == fraction}) == 1
    assert {row["seed"] for row in document["rows"]} == {0, 1}
    command = document["provenance"]["command"]
    assert command.startswith("python -m benchmarks.loss_decrease --instance=smoke")
    assert document["provenance"]["versions"]["torch"]


def test_table_and_figure_are_made_from_the_results_file_alone(results: Path) -> None:
    file = results / "loss_decrease-smoke.json"
    written = rendered_again(driver, file, "md", "svg", instance="smoke")
    assert all(f" {name} |" in written["md"] for name in CRITERIA)


def test_an_interrupted_run_goes_on_and_other_settings_overwrite_nothing(results: Path) -> None:
    file = results / "loss_decrease-smoke.json"
    document = json.loads(file.read_text())
    assert resume(file, {**document, "rows": []}) == document
    other = {**document, "settings": {**document["settings"], "rows": 99}}
    with pytest.raises(FileError, match="holds results of other settings: move it"):
        resume(file, other)
    assert resume(results / "none.json", {**document, "rows": []})["rows"] == []


def test_means_are_over_seeds() -> None:
    rows = [
        {
            "seed": seed,
            "criterion": "pins",
            "fraction": 0.5,
            "pruned": 3,
            "predicted": value,
            "predicted_second_order": 0.0,
            "measured": 2 * value,
            "measured_unseen": 0.0,
        }
        for seed, value in ((0, 1.0), (1, 3.0))
    ]
    (mean,) = driver.mean_over_seeds(rows)
    assert (mean["predicted"], mean["measured"], mean["pruned"]) == (2.0, 4.0, 3)


def test_unknown_instances_and_broken_results_say_so(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no instance 'bert': choose one of minilm-stdlib-docs"):
        find(INSTANCES, "bert", "instance", SettingError)
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(FileError, match=r"torn\.json is not a results file"):
        read(tmp_path / "torn.json")


def test_the_scope_is_read_off_the_rows_and_one_row_turns_it() -> None:
    rows = [
        {"criterion": name, "fraction": f, "measured": value, "measured_unseen": value}
        for f in (0.001, 0.01, 0.5)
        for name, value in (("pins", 2.0), ("magnitude", 1.0), ("sensitivity", 1.0), (REGION, 0.0))
    ]
    said = driver.scope(rows)
    assert "unseen rows at no fraction tried. `trust-region` had the lowest" in said
    assert said.count("at 2 of the 2 fractions from 1 % on and 1 of the 1 below") == 2
    rows[-1]["measured"] = 1.0  # a tie is not the lowest
    rows[0]["measured"] = -1.0
    turned = driver.scope(rows)
    assert "on the gradient's rows at 0.100 %, on unseen rows at no fraction" in turned
    assert "gradient's rows at 1 of the 2 fractions from 1 % on and 0 of the 1 below" in turned


def test_every_instance_says_what_it_exercises() -> None:
    for instance in INSTANCES.values():
        assert instance.exercises
        assert all(0 < fraction < 1 for fraction in instance.fractions)
