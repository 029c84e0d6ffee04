import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from pins.errors import CriterionError, FileError, ScheduleError
from pins.utils.output import make_console
from tests.verification.conftest import PRINTED, SAID
from verification import checker, formatting
from verification.demo.command import run_demo, shortened_table, summary
from verification.demo.settings import SHORTENED, DemoSettings

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


def test_a_run_takes_the_place_of_an_earlier_one(folder: Path) -> None:
    written = sorted(file.name for file in (folder / "decisions").iterdir())
    assert written == ["0004", "0008", "0010"]
    assert not (folder / "figures" / "a.svg").exists()
    assert not (folder / "model" / "a").exists()
    assert (folder / "index.html").read_text() != "earlier"


def test_a_pipe_is_told_each_phase(folder: Path) -> None:
    printed = (folder.parent / PRINTED).read_text()
    results = json.loads((folder / "results.json").read_text())
    for phase in results["seconds"]:
        assert re.search(rf"^{phase} +0 % +0 s", printed, re.MULTILINE)
        assert re.search(rf"^{phase} +100 % ", printed, re.MULTILINE)
    make_console(stream := io.StringIO()).print(shortened_table(results["shortened"]))
    assert "steps of fine-tuning                  " in stream.getvalue()
    assert "…" not in printed + stream.getvalue()


def test_a_demo_says_its_results_as_one_json_object(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    said = json.loads((folder.parent / SAID).read_text())
    assert said["folder"] == str(folder)
    assert Path(said["report"]).is_file()
    assert {name: results[name] for name in ("decisions", "ledger")}.items() <= said.items()


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
    with pytest.raises(ScheduleError, match="cool-down 40 leave no step to prune in 30: 11 too"):
        run_demo(Console(quiet=True), tmp_path / "b", {"sparse_steps": 30})


def test_a_full_run_has_todays_sizes_and_shortens_nothing() -> None:
    full = DemoSettings.full()
    assert (full.dense_steps, full.sparse_steps, full.cooldown) == (300, 240, 60)
    assert full.learning_rate == 4e-4
    assert (full.max_length, full.compared_rows, full.fisher_rows) == (64, 128, 64)
    assert full.fractions == (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5)
    assert full.shares == (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 16.0)
    assert full.shortened() == []
    less = DemoSettings.full(dense_steps=20)
    assert less.shortened() == [{"what": "steps of fine-tuning", "short": 20, "full": 300}]
    assert less.sparse_steps == 240
    assert DemoSettings.full(dense_steps=500).shortened() == []


def test_what_a_run_shortens_is_less_and_said() -> None:
    rows = DemoSettings().shortened()
    assert [row["what"] for row in rows] == [what for what, _ in SHORTENED.values()]
    assert all(row["short"] < row["full"] for row in rows)
    assert {"what": "tokens of a row, at most", "short": 32, "full": 64} in rows
    table = shortened_table(rows)
    assert list(table.columns[1].cells) == [str(row["short"]) for row in rows]
    assert list(table.columns[2].cells) == [str(row["full"]) for row in rows]


def test_summary_and_page_say_what_is_shortened(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    page = (folder / "index.html").read_text()
    assert len(results["shortened"]) == len(SHORTENED)
    for row in results["shortened"]:
        cells = f"{row['what']}</td><td>{row['short']}</td><td>{row['full']}</td>"
        assert cells in page
    (line,) = (line for line in summary(results) if line.startswith("shortened"))
    assert line.startswith(f"shortened  {len(SHORTENED)} sizes")
    for complete in ({**results, "shortened": []}, {**results, "shortened": None}):
        assert not any(line.startswith("shortened") for line in summary(complete))


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
