"""The folder of a run is read; an error names a missing file and the command that writes it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pins.errors import FileError
from pins.selection.select import decide
from verification.experiments.run_reader import RunData
from verification.experiments.score_curve import score_curve


def test_a_demo_and_a_pruned_model_have_the_same_fields(
    demo_folder: Path, prune_folder: Path
) -> None:
    for folder, demo in ((demo_folder, True), (prune_folder, False)):
        run = RunData(folder)
        assert run.is_demo is demo
        assert run.sample.total == sum(run.tensors.values())  # so small a model is its own sample
        assert list(run.sample.weights) == list(run.tensors)
        assert len(run.kinds) == len(run.tensors)
        assert run.steps == 12
        for decision in run.counted:
            assert decision["keep"] == sum(decision["each"])
            share = float(run.schedule.sparsity(decision["step"]))
            assert abs(decision["sparsity"] - share) <= 1 / decision["total"]
        assert run.curve["keep"] == run.decisions[-1]["keep"]
        assert run.curve["total"] == run.sample.total


def test_the_curve_of_a_pruned_model_is_computed_from_its_scores(prune_folder: Path) -> None:
    from pins.utils.io import load_tensors

    scores, _ = load_tensors(prune_folder / "scores.safetensors")
    run = RunData(prune_folder)
    assert run.curve == score_curve(scores, decide(scores, run.decisions[-1]["keep"]).proof)


def test_the_curve_of_a_trust_region_is_computed_from_both_terms(
    tiny_model: Path, tmp_path: Path
) -> None:
    from pins.importance.trust_region.program import Terms
    from pins.runs.export import finish
    from pins.runs.run import Run
    from pins.utils.io import load_tensors
    from tests.pins.runs.tiny_runs import save_data, settings, take

    data = save_data(tmp_path / "data")
    wanted = settings(
        tiny_model, data, criterion="trust-region", smoothing=None, radius=4.0, cooldown=0
    )
    run = take(Run(wanted, tmp_path / "out"))
    finish(run)
    curve = RunData(tmp_path / "out").curve
    scores, _ = load_tensors(tmp_path / "out" / "scores.safetensors")
    multiplier = run.history.decisions[-1]["multiplier"]
    if multiplier:
        costs, _ = load_tensors(tmp_path / "out" / "costs.safetensors")
        scores = {n: Terms(s, costs[n]).scores(multiplier) for n, s in scores.items()}
    assert curve == score_curve(scores, decide(scores, curve["keep"]).proof)


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is no folder: give the folder of a run, as of"):
        RunData(tmp_path / "nothing")
    run = RunData(tmp_path)
    with pytest.raises(FileError, match=r"holds no results\.json and no run\.json: give the fol"):
        assert run.document
    with pytest.raises(FileError, match=r"holds no sample\.safetensors: give the folder of a run"):
        assert run.sample
    with pytest.raises(FileError, match=r"holds no solvers\.json: .* `python -m benchmarks\.sol"):
        run.rows("solvers.json", "python -m benchmarks.solvers")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON file"),
        ("[]", "holds no JSON object"),
        ('{"format": "thesis"}', "is no pins-report"),
        ('{"format": "pins-report", "finished": false}', "holds a run that is not finished"),
    ],
)
def test_an_unreadable_document_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(FileError, match=message):
        assert RunData(tmp_path).document


def test_a_run_of_an_earlier_version_is_an_error(prune_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prune_folder, tmp_path / "out")
    document: dict[str, Any] = json.loads((folder / "run.json").read_text())
    for decision in document["decisions"]:
        del decision["each"]
    (folder / "run.json").write_text(json.dumps(document))
    with pytest.raises(FileError, match="holds a run of an earlier version"):
        assert RunData(folder).counted
    with pytest.raises(FileError, match="holds no multiplier path: give --from the folder of"):
        RunData(folder).field("multiplier_path", "pins demo")


def test_results_without_rows_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "solvers.json").write_text('{"rows": []}')
    with pytest.raises(FileError, match="holds no rows: let `x` finish"):
        RunData(tmp_path).rows("solvers.json", "x")
