import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.documents import readme
from benchmarks.end_accuracy.driver import FILE
from benchmarks.harness.results import RESULTS
from pins.cli import main
from pins.errors import FileError
from tests.commands import Command
from verification.claims import ALL_CLAIMS, Setting, laws
from verification.claims import command as ledger_command
from verification.claims.command import empirical_table, print_empirical, run_ledger
from verification.claims.ledger import document
from verification.empirical import ALL, Verdict
from verification.empirical.ledger import (
    EmpiricalEntry,
    choose_folder,
    committed,
    counts,
    rows_of,
    rule_folder,
    rules,
)
from verification.empirical.results import KINDS, read_folder
from verification.formatting import ranges


def printed(by: Callable[[Console], object]) -> str:
    """On a wide terminal."""
    console = Console(width=4000, file=io.StringIO(), record=True)
    by(console)
    return console.export_text()


def test_ids_are_unique_and_everything_is_said() -> None:
    assert len({claim.id for claim in ALL}) == len(ALL) >= 12
    assert not {claim.id for claim in ALL} & {claim.id for claim in ALL_CLAIMS}
    for claim in ALL:
        assert claim.statement.endswith(".")
        assert claim.scope
        assert claim.rule.startswith("Holds ")
        assert "oes not hold" in claim.rule
        assert claim.source in ("Ren & Zhu 2023", "PINS")


def test_without_results_nothing_is_tested_and_each_says_what_to_run(tmp_path: Path) -> None:
    for entries in (rule_folder(None), rule_folder(tmp_path)):
        assert [entry.claim for entry in entries] == list(ALL)
        for entry in entries:
            assert entry.ruling.verdict is Verdict.UNTESTED
            assert f"run `{entry.claim.reads.command}`" in entry.ruling.evidence
    assert counts(rule_folder(None)) == {
        Verdict.HOLDS: 0,
        Verdict.FAILS: 0,
        Verdict.UNTESTED: len(ALL),
    }


def test_the_commands_are_those_of_modules_and_the_names_those_of_their_files() -> None:
    for kind in KINDS:
        module = kind.command.removeprefix("python -m ")
        assert (RESULTS.parents[1] / module.replace(".", "/") / "__main__.py").is_file()
        assert list(RESULTS.glob(kind.pattern))
    assert any(kind.pattern == FILE for kind in KINDS)


def test_the_results_of_the_checkout_are_the_default() -> None:
    assert committed() == RESULTS == choose_folder(None)
    assert choose_folder(Path("elsewhere")) == Path("elsewhere")


DAMAGED: Mapping[str, Mapping[str, object]] = {
    "loss_decrease-x.json": {
        "seed": 0,
        "criterion": "pins",
        "fraction": 0.1,
        "measured": 0.5,
        "measured_unseen": 0.5,
    },
    "end_accuracy.json": {
        "task": "rte",
        "seed": 0,
        "method": "pins",
        "sparsity": 0.9,
        "self_regularization": False,
        "metric": "accuracy",
        "score": 0.5,
        "test_rows": 9,
    },
    "overhead-x.json": {
        "network": "n",
        "device": "cpu",
        "precision": "float32",
        "variant": "v",
        "seconds": [1.0],
        "peak_bytes": 5,
    },
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    file, row = tmp_path / name, DAMAGED[name]

    def write(value: object) -> None:
        file.write_text(json.dumps(value))

    write({"rows": [row]})
    read_folder(tmp_path)  # whole
    file.write_text(json.dumps({"rows": [row]})[:-5])
    refused(tmp_path, rf"{name} is not a results file: .*: run `python -m benchmarks\.\w+` again")
    file.write_bytes(b"\xff\xfe\x00")
    refused(tmp_path, f"{name} is not a results file")
    file.write_text("[" * 100_000)
    refused(tmp_path, f"{name} is not a results file")
    others: tuple[object, ...] = ([], {}, {"rows": 3}, 5)
    for value in others:
        write(value)
        refused(tmp_path, f"{name} is not a results file: it holds no rows")
    write({"rows": [row, 7]})
    refused(tmp_path, f"{name}: row 1 is 7, not an object")
    write({"rows": [row, row]})
    refused(tmp_path, f"{name}: row 1 is there twice")
    for field in row:
        write({"rows": [{key: value for key, value in row.items() if key != field}]})
        refused(tmp_path, f"{name}: row 0 has no '{field}'")
        write({"rows": [{**row, field: [True]}]})
        refused(tmp_path, f"{name}: row 0 has '{field}' ")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(FileError, match=message):
        rule_folder(folder)


@pytest.mark.parametrize(
    ("name", "field", "wrong"),
    [
        ("loss_decrease-x.json", "fraction", 1.5),
        ("loss_decrease-x.json", "seed", True),
        ("end_accuracy.json", "self_regularization", 1),
        ("end_accuracy.json", "test_rows", 0),
        ("end_accuracy.json", "score", "0.5"),
        ("overhead-x.json", "seconds", []),
        ("overhead-x.json", "seconds", [0.0]),
        ("overhead-x.json", "peak_bytes", -1),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    name: str, field: str, wrong: object, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps({"rows": [{**DAMAGED[name], field: wrong}]}))
    refused(tmp_path, f"{name}: row 0 has '{field}' ")


def test_a_folder_that_is_none_is_refused_before_any_claim_is_run(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nowhere is not a folder: give one with results files"):
        run_ledger(
            Console(quiet=True),
            profile="quick",
            file=None,
            model="no/such-model",
            seed=0,
            results=tmp_path / "nowhere",
        )


def test_the_command_says_what_is_wrong_with_a_file_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "end_accuracy.json").write_text("{")
    monkeypatch.setattr(sys, "argv", ["pins", "verify", "--results", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, err.count("\n")) == (2, "", 1)
    assert "end_accuracy.json is not a results file: Expecting property name" in err


def test_a_claim_that_fails_here_changes_no_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pins: Command
) -> None:
    monkeypatch.setattr(ledger_command, "ALL_CLAIMS", laws.CLAIMS[:1])
    row = DAMAGED["loss_decrease-x.json"]
    rows = [{**row, "criterion": name} for name in ("pins", "magnitude", "sensitivity")]
    (tmp_path / "loss_decrease-x.json").write_text(json.dumps({"rows": rows}))
    out = tmp_path / "ledger.json"
    code, said, err = pins("verify", "--out", out, "--results", tmp_path, "--json")
    ledger = json.loads(out.read_text())
    assert json.loads(said) == ledger
    assert "claims                       100 %" in err
    assert (code, ledger["all_hold"], len(ledger["claims"])) == (0, True, 1)
    assert ledger["empirical"][0]["verdict"] == "fails"
    assert ledger["empirical"][-1]["verdict"] == "untested"


def test_the_ledger_is_json_and_empirical_claims_do_not_decide_whether_all_holds() -> None:
    entries = rule_folder(RESULTS)
    ledger = document([], Setting(), entries)
    assert json.loads(json.dumps(ledger, allow_nan=False)) == ledger
    assert ledger["all_hold"]
    assert [row["id"] for row in ledger["empirical"]] == [claim.id for claim in ALL]
    verdicts = {row["verdict"] for row in ledger["empirical"]}
    assert verdicts <= {"holds", "fails", "untested"}
    assert document([], Setting())["empirical"] == []


def test_losses_that_are_no_numbers_are_json_too(tmp_path: Path) -> None:
    row = DAMAGED["loss_decrease-x.json"]
    rows = [{**row, "measured": float("nan")}]
    rows += [{**row, "criterion": name} for name in ("magnitude", "sensitivity")]
    (tmp_path / "loss_decrease-x.json").write_text(json.dumps({"rows": rows}))
    found = rows_of(rule_folder(tmp_path))
    json.dumps(found, allow_nan=False)
    assert found[0]["numbers"]["places"][0]["mine"] is None
    assert found[0]["said"] == "does not hold"


def test_the_printed_ledger_has_every_verdict_and_every_rule() -> None:
    entries = rule_folder(RESULTS)
    text = printed(lambda console: print_empirical(console, entries, RESULTS))
    assert f"ruled on from {RESULTS}" in text
    for entry in entries:
        assert entry.claim.id in text
        assert entry.claim.statement in text
    for verdict, number in counts(entries).items():
        assert f"{number} {verdict.value}" in text
    flat = " ".join(text.split())
    for rule in rules(entries):
        assert " ".join(rule.split()) in flat
    assert "no results files" in printed(lambda c: print_empirical(c, rule_folder(None), None))


def test_brackets_in_what_a_file_says_are_no_markup(tmp_path: Path) -> None:
    row = DAMAGED["loss_decrease-x.json"]
    rows = [{**row, "criterion": name} for name in ("pins", "magnitude", "sensitivity")]
    (tmp_path / "loss_decrease-[red].json").write_text(json.dumps({"rows": rows}))
    entries: list[EmpiricalEntry] = rule_folder(tmp_path)
    assert "[red], 1 seed" in printed(lambda console: console.print(empirical_table(entries)))


def test_the_readme_lists_every_claim_with_its_verdict() -> None:
    lines = readme.empirical().splitlines()
    entries = rule_folder(RESULTS)
    table = [line for line in lines if line.startswith("| ")][1:]
    assert len(table) == len(entries)
    for line, entry in zip(table, entries, strict=True):
        assert line.count("|") - 2 * line.count("\\|") == 5
        assert f"`{entry.claim.id}`" in line
        assert f"**{entry.ruling.verdict.value}**" in line
    assert sum(line.startswith("- ") for line in lines) == len(rules(entries))


def test_neighbours_are_drawn_together_and_others_are_not() -> None:
    tried = [0.001, 0.01, 0.05, 0.1, 0.2, 0.5]
    assert ranges(tried, tried) == "0.1 % to 50 %"
    assert ranges([0.01, 0.05, 0.2, 0.5], tried) == "1 %, 5 %, 20 % and 50 %"
    assert ranges([0.001, 0.05, 0.1, 0.2], tried) == "0.1 % and 5 % to 20 %"
    assert ranges([], tried) == "none"
