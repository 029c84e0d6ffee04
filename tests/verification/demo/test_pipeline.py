import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from pins.errors import CriterionError, FileError, ScheduleError
from tests.verification.conftest import SMALL_DEMO
from verification import checker, formatting
from verification.demo.command import run_demo

pytest.importorskip("transformers", reason="the demo's model is a transformers model")
pytest.importorskip("jinja2", reason="the report's page is a Jinja template")


@pytest.fixture
def folder(demo_folder: Path) -> Path:
    return demo_folder


def test_every_decision_is_certified_and_its_certificate_proved(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    assert [decision["step"] for decision in results["decisions"]] == [4, 8, 10]
    for decision in results["decisions"]:
        verdict = checker.check(folder / decision["certificate"])
        assert verdict.outcome is checker.Outcome.PROVED, verdict.message


def test_the_sparsity_is_exact_in_mask_and_model(folder: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    results = json.loads((folder / "results.json").read_text())
    total = results["model"]["prunable"]
    assert sum(layer["kept"] for layer in results["layers"]) == round(0.2 * total)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    weights = dict(model.named_parameters())
    for layer in results["layers"]:
        nonzero = int(weights[layer["name"]].count_nonzero())
        assert nonzero == layer["nonzero"] <= layer["kept"]


def test_the_last_certificate_was_checked_without_anything_installed(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    assert results["checker"]["exit"] == 0
    assert results["checker"]["message"].startswith("proved: ")
    assert results["checker"]["certificate"] == "decisions/0010/certificate.json"


def test_the_page_shows_what_the_results_say(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    page = (folder / "index.html").read_text()
    assert f"{results['decisions'][-1]['keep']:,}" in page
    for claim in json.loads((folder / "ledger.json").read_text())["claims"]:
        assert claim["id"] in page
    empirical = {row["id"]: row for row in results["ledger"]["empirical"]}
    for name in empirical:
        assert name in page
    ruling = empirical["one-shot-pins-rows"]
    assert ruling["verdict"] in ("holds", "fails")
    assert ruling["evidence"].startswith("stdlib-docs, 1 seed: ")
    assert ruling["evidence"] in page
    assert empirical["gradual-pins"]["verdict"] == "untested"
    for link in ("ledger.json", "results.json", results["checker"]["certificate"]):
        assert f'href="{link}"' in page
        assert (folder / link).is_file()
    for fetched in ('src="http', 'href="http', "url(http", "@import"):
        assert fetched not in page  # opens from disk, without a network


def test_a_second_run_takes_the_place_of_the_first(
    demo_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(demo_folder, tmp_path / "report")
    settings = {**SMALL_DEMO, "model": str(tiny_model), "sparse_steps": 6, "fractions": (0.5,)}
    run_demo(Console(quiet=True), folder, settings)
    assert [at.name for at in sorted((folder / "decisions").iterdir())] == ["0004"]
    results = json.loads((folder / "results.json").read_text())
    assert results["checker"]["certificate"] == "decisions/0004/certificate.json"


def test_a_folder_with_other_things_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileError, match=r"is not empty and holds no results\.json"):
        run_demo(Console(quiet=True), tmp_path, {})
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_results_of_another_project_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"my": "experiment"}')
    (tmp_path / "decisions").mkdir()
    (tmp_path / "decisions" / "minutes.txt").write_text("precious")
    with pytest.raises(FileError, match=r"results\.json exists and is no pins-report"):
        run_demo(Console(quiet=True), tmp_path, {})
    assert (tmp_path / "decisions" / "minutes.txt").read_text() == "precious"


def test_bad_settings_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(CriterionError, match="no criterion 'taylor': choose one of pins"):
        run_demo(Console(quiet=True), tmp_path / "a", {"criterion": "taylor"})
    with pytest.raises(ScheduleError, match="cool-down 60 leave no step to prune in 30: 31 too"):
        run_demo(Console(quiet=True), tmp_path / "b", {"sparse_steps": 30})


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (-39.6, "−39.6"), (2.0, "+2.00"), (-0.0134, "−0.013"), (4e-7, "+4e-07")],
)
def test_changes_are_shown_with_sign_and_telling_digits(value: float, shown: str) -> None:
    assert formatting.signed(value) == shown


@pytest.mark.parametrize(
    ("value", "digits", "shown"), [(0.8, 1, "80.0 %"), (1e-5, 2, "0.001 %"), (0.0, 2, "0.00 %")]
)
def test_ratios_are_shown_with_their_first_digit(value: float, digits: int, shown: str) -> None:
    assert formatting.percent(value, digits) == shown
