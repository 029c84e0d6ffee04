"""Runs within a budget: the table is measured, the choice is made and kept to."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from pins.errors import SettingError
from pins.oneshot.run import OneShot
from pins.oneshot.settings import Settings
from pins.selection.budget import Budget, ErrorTable, best_choice
from tests.pins.oneshot.runs import contents, run
from tests.pins.oneshot.tiny_decoders import save_decoder, save_text
from verification.checker import Outcome, check

pytest.importorskip("transformers", reason="the models are those of transformers")

LEVELS = "0,0.25,0.5,2:4,0.75"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    for kind in ("GPT2", "Mixtral"):
        save_decoder(place / kind, kind)
    save_text(place / "text.txt")
    return place


def settings_of(inputs: Path, kind: str, **others: Any) -> Settings:
    given = {"task": "text", "data": inputs / "text.txt", "length": 16, "calibration": 2}
    return Settings(model=str(inputs / kind), **{**given, "test_windows": 2, **others})


def table_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "error-table.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "method"), [("GPT2", "sparsegpt"), ("Mixtral", "wanda"), ("GPT2", "alps")]
)
def test_the_files_cost_what_was_chosen_and_no_single_level_is_better(
    inputs: Path, kind: str, method: str, tmp_path: Path
) -> None:
    settings = settings_of(
        inputs, kind, method=method, budget="bytes=0.7", levels=LEVELS, format="sparse-bitmask"
    )
    facts = run(settings, tmp_path)
    budget, certificate = facts["budget"], tmp_path / "budget.certificate.json"
    assert check(certificate).outcome is Outcome.PROVED
    table = {layer["name"]: layer for layer in table_of(tmp_path)["layers"]}
    layers = {n: each for block in facts["blocks"] for n, each in block["layers"].items()}
    stored: dict[str, Any] = {}
    for file in tmp_path.glob("model-*.safetensors"):
        stored |= load_file(file)
    packed = [
        n for n in stored if n.endswith((".compressed", ".bitmask", ".shape", ".row_offsets"))
    ]
    assert sum(stored[name].nbytes for name in packed) == budget["cost"]["value"]
    for name, layer in layers.items():
        if "left_dense" not in layer:
            option = next(o for o in table[name]["options"] if o["level"] == layer["level"])
            assert layer["kept"] == option["kept"]
    limit = 0.7 * sum(layer["dense"]["bytes"] for layer in table.values())
    assert budget["cost"]["value"] <= budget["budget"]["value"] <= limit
    for level in (0, 0.25, 0.5, "2:4", 0.75):
        own = [next(o for o in t["options"] if o["level"] == level) for t in table.values()]
        if sum(option["bytes"] for option in own) <= limit:
            assert budget["error"]["value"] <= sum(o["error"] for o in own) + 1e-12
    assert (tmp_path / "README.md").read_text().count("| budget |") == 1
    for proof in facts["certificates"].values():
        assert check(tmp_path / proof).outcome is Outcome.PROVED


@pytest.mark.parametrize("others", [{"refit": True}, {"method": "obs", "swaps": True}])
def test_the_table_has_the_errors_of_runs_at_one_level(
    inputs: Path, others: dict[str, Any], tmp_path: Path
) -> None:
    """In the first block, that is, whose inputs are those of the dense model."""
    run(settings_of(inputs, "GPT2", levels="0,0.5", **others), tmp_path / "table")
    uniform = run(settings_of(inputs, "GPT2", sparsity=0.5, **others), tmp_path / "uniform")
    found = {layer["name"]: layer["options"] for layer in table_of(tmp_path / "table")["layers"]}
    for name, layer in uniform["blocks"][0]["layers"].items():
        dense, half = found[name]
        assert (dense["level"], dense["error"]) == (0, 0)
        assert half["error"] == layer["relative_error"]
        assert half["absolute_error"] == layer["error"]
        assert 0 < half["error"] < 1
    later = uniform["blocks"][1]["layers"].items()
    assert any(found[name][1]["error"] != layer["relative_error"] for name, layer in later)


def test_a_stopped_measurement_goes_on_to_the_same_files(inputs: Path, tmp_path: Path) -> None:
    settings = settings_of(inputs, "GPT2", budget="flops=0.6", levels=LEVELS)
    run(settings, tmp_path / "whole")
    stopped = OneShot(settings, tmp_path / "stopped")
    stopped.folder.begin({**settings.as_json(), **stopped.inputs}, resume=False)
    next(stopped.errors())
    assert (tmp_path / "stopped" / "blocks" / "00.errors.json").is_file()
    facts = run(settings, tmp_path / "stopped", resume=True)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    table = ErrorTable.read(tmp_path / "stopped" / "error-table.json")
    choice = best_choice(table, Budget.parse("flops=0.6"))
    assert float(choice.cost) == facts["budget"]["cost"]["value"]


def test_a_budget_below_the_least_names_it_and_the_table_stays(
    inputs: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=r"^budget is .* and the cheapest choice takes 3,072"):
        run(settings_of(inputs, "GPT2", budget="flops=0.1", levels="0.5,0.75"), tmp_path)
    assert table_of(tmp_path)["format"] == "pins-error-table"


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"budget": "bytes=0.6", "sparsity": 0.5}, "leave the others out"),
        ({"budget": "bytes=0.6", "pattern": "2:4"}, "leave the others out"),
        ({"budget": "bytes"}, "budget is 'bytes': give the name of a cost"),
        ({"budget": "latency=1"}, "the budget is of 'latency', and a run knows bytes and flops"),
        ({"budget": "bytes=0.6", "scope": "global"}, "leave --scope global out"),
        ({"levels": "0.5,half"}, "a level is 'half': give sparsities and patterns"),
        ({"levels": "0.5,1/2"}, "a level is '1/2'"),
        ({"levels": "0.5,0.50"}, "the level '0.50' is there twice"),
        ({"levels": "0.5,1.5"}, "sparsity is 1.5"),
    ],
)
def test_what_does_not_fit_is_refused(others: dict[str, Any], why: str) -> None:
    with pytest.raises(Exception, match=why):
        Settings(model="m", **others)


def test_methods_that_decide_for_all_layers_have_no_levels(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^pins decides for all layers at once, and levels"):
        OneShot(settings_of(inputs, "GPT2", method="pins", levels="0.5"), tmp_path)
