from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness.one_shot import SETTINGS
from benchmarks.harness.results import read
from benchmarks.oneshot_layers import driver
from benchmarks.oneshot_layers.inputs import captured
from benchmarks.oneshot_layers.table import MEASURED, METHODS, best, excesses, table
from pins.errors import SettingError
from pins.models.decoder import Decoder
from pins.oneshot.methods.registry import METHODS as ALL
from pins.oneshot.settings import Settings
from tests.benchmarks.started import interrupted, rendered_again, start, words

SMALL: dict[str, Any] = {"task": "text", "blocks": "1", "calibration": 6, "length": 8}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]) -> Path:
    """A folder with what the command writes, as anyone would start it."""
    out = tmp_path_factory.mktemp("results")
    start("oneshot_layers", *words({**SMALL, **given}), out=out)
    return out


def test_swaps_and_refits_lower_the_errors_of_the_same_layers(results: Path) -> None:
    rows = read(results / driver.FILE)["rows"]
    assert len(rows) == len(MEASURED) * len(METHODS)
    for setting in MEASURED:
        total = {
            row["method"]: sum(row["relative_errors"].values())
            for row in rows
            if row["setting"] == setting
        }
        for method in ("magnitude", "wanda", "ria"):
            assert total[f"{method} + refit"] < total[method]
        for method in ("wanda", "alps", "obs"):
            # damped, as the refit is; the errors here are without
            assert total[f"{method} + swaps"] <= 1.01 * total[method]
        assert total["obs"] < total["wanda"] < total["magnitude"]
        assert len(rows[0]["relative_errors"]) == 7


def test_inputs_are_those_of_the_dense_model(given: dict[str, Any]) -> None:
    layers = captured(given["model"], "text", given["data"], 6, 8, (0, 1))
    again = captured(given["model"], "text", given["data"], 6, 8, (1,))[1]
    decoder = Decoder.open(given["model"])
    with decoder.loaded(1) as block:
        for name, layer in layers[1].items():
            module: Any = block.get_submodule(name)
            assert torch.equal(layer.weight, module.weight)
            assert torch.equal(layer.gram, again[name].gram)
            assert layer.vectors == 48
    query, value, up = (layers[1][f"{n}_proj"] for n in ("self_attn.q", "self_attn.v", "mlp.up"))
    assert torch.equal(query.gram, value.gram)
    assert not torch.equal(query.gram, up.gram)
    assert not torch.equal(query.gram, layers[0]["self_attn.q_proj"].gram)


def test_a_block_that_there_is_not_is_told(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=r"blocks are \(2,\), and .*a-model has 2: give"):
        driver.run(**{**SMALL, **given, "blocks": "2", "out": tmp_path})
    with pytest.raises(SettingError, match="blocks is '-1': give numbers like"):
        driver.run(**{**SMALL, **given, "blocks": "-1", "out": tmp_path})


def test_the_table_is_made_from_the_results_file_alone(
    results: Path, given: dict[str, Any]
) -> None:
    text = rendered_again(driver, results / driver.FILE, "md")["md"]
    assert "| method | blocks | q | k | v | o | gate | up | down | all | best of 7 |" in text
    assert "tokens of text's train text. Layers of blocks numbered 1, from what" in text
    for path in (results, *given.values()):
        assert str(path) not in text


def test_an_interrupted_benchmark_goes_on_with_what_is_missing(
    tmp_path: Path, results: Path, given: dict[str, Any]
) -> None:
    small = {**SMALL, **given, "out": tmp_path, "settings": "2:4", "methods": "wanda,obs,alps"}
    with interrupted(driver, after=2):
        driver.run(**small)
    assert len(read(tmp_path / driver.FILE)["rows"]) == 2
    driver.run(**small)
    once = {(row["setting"], row["method"]): row for row in read(results / driver.FILE)["rows"]}
    for row in read(tmp_path / driver.FILE)["rows"]:
        assert row["relative_errors"] == once["2:4", row["method"]]["relative_errors"]


def row(method: str, block: int, **errors: float) -> dict[str, Any]:
    also = {"setting": "2:4", "swaps": 10 if "swaps" in method else None, "cpu": 36.0}
    return {"method": method, "block": block, "relative_errors": errors, **also}


def test_an_excess_is_over_the_least_error_of_the_same_layer(results: Path) -> None:
    rows = [
        row("wanda", 0, a=0.25, b=0.5),
        row("wanda", 1, a=0.5, b=1.0),
        row("alps + swaps", 0, a=0.125, b=0.75),
        row("alps + swaps", 1, a=0.5, b=0.5),
    ]
    assert best(rows) == {(0, "a"): 0.125, (0, "b"): 0.5, (1, "a"): 0.5, (1, "b"): 0.5}
    assert excesses(rows, "wanda") == {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    assert excesses(rows, "alps + swaps") == {"a": [0.0, 0.0], "b": [0.5, 0.0]}
    text = table({**read(results / driver.FILE), "rows": rows})
    assert "| method | blocks | a | b | all | best of 4 | swaps | core-seconds |" in text
    assert "| wanda | 2 | 50 % | 50 % | 50 % | 2 |  | 36 |" in text
    assert "| alps + swaps | 2 | 0 % | 25 % | 12.5 % | 3 | 10 | 36 |" in text
    assert "errors are 12.50 % to 50.00 % of the layers' outputs. Not measured: magnitude, " in text
    assert "0.04 core-hours for 4 runs" in text


def test_every_method_by_gram_matrices_is_there() -> None:
    named = {name.partition(" + ")[0] for name in METHODS}
    assert named <= {*ALL}
    for method in METHODS.values():
        for setting in MEASURED:
            Settings(model="m", **method, **SETTINGS[setting])
