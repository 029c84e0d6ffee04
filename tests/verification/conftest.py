import io
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from pins.models.heads import CLASSIFICATION
from pins.models.parameters import prunable_parameters
from pins.models.pretrained import load_model
from pins.runs.run import Run
from pins.tasks.text_classification import Example, encode_texts
from pins.utils.io import write_json, write_text
from pins.utils.output import make_console
from tests.pins.runs.tiny_runs import save_data, settings, take
from tests.tiny_model import save_tiny_bert
from tests.verification.small_network import observed_network
from verification.experiments.loss_change import Experiment
from verification.experiments.model_snapshot import ModelSnapshot
from verification.experiments.smooth_loss import SmoothLoss


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="the tiny model is a transformers model")
    return save_tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def experiment(tiny_model: Path) -> Experiment:
    classifier = load_model(str(tiny_model), (CLASSIFICATION,), ("a", "b", "c"), seed=0)
    examples = [Example("return the value of a list", 0), Example("class and method", 1)] * 4
    encoded = encode_texts(examples, classifier.tokenizer, 16)
    model = classifier.model.double()  # so that changes of 1e-8 can be told from rounding
    return Experiment(
        model=model,
        parameters=prunable_parameters(model).parameters,
        rows=encoded,
        unseen=encoded,
        trial_rows=encoded,
    )


@pytest.fixture(scope="module")
def observed(experiment: Experiment) -> ModelSnapshot:
    return experiment.observe("tiny", fisher_rows=4, seed=0)


def made_once(name: str, make: Callable[[Path], object], factory: pytest.TempPathFactory) -> Path:
    """A folder that the first of all workers to need it makes; the others wait for it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    made = folder / "made"
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


SMALL_DEMO: dict[str, Any] = {
    "dense_steps": 3,
    "sparse_steps": 12,
    "interval": 4,
    "cooldown": 2,
    "compared_rows": 8,
    "fractions": (0.01, 0.5),
}

EARLIER = ("index.html", "decisions/0099/mask.safetensors", "figures/a.svg", "model/a")

# beside the folder of the demo: its progress, and its JSON
PRINTED, SAID = "printed.txt", "said.json"


@pytest.fixture(scope="session")
def demo_folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a demo wrote over an earlier report; not to be changed."""
    pytest.importorskip("jinja2", reason="the report's page is a Jinja template")
    from verification.demo.command import run_demo

    def make(place: Path) -> None:
        folder = place / "report"
        write_json({"format": "pins-report", "finished": True}, folder / "results.json")
        for name in EARLIER:
            write_text("earlier", folder / name)
        given = {**SMALL_DEMO, "model": str(tiny_model), "keep_scores": True}
        stream = io.StringIO()
        with redirect_stdout(io.StringIO()) as said:
            assert run_demo(make_console(stream), folder, given, json=True) == 0
        write_text(stream.getvalue(), place / PRINTED)
        write_text(said.getvalue(), place / SAID)

    return made_once("demo", make, tmp_path_factory) / "report"


@pytest.fixture(scope="session")
def prune_folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of `pins prune` wrote; not to be changed."""
    from pins.runs.export import finish

    def make(place: Path) -> None:
        data = save_data(place / "data")
        finish(take(Run(settings(tiny_model, data), place / "out")))

    return made_once("prune", make, tmp_path_factory) / "out"


@pytest.fixture(scope="session")
def small_real() -> ModelSnapshot:
    """Weights and gradients in the shape of a model, small enough for every claim."""
    generator = torch.Generator().manual_seed(0)
    names = [f"bert.encoder.layer.{i}.{part}.weight" for i in range(2) for part in ("key", "dense")]

    def draw(scale: float) -> dict[str, torch.Tensor]:
        return {name: scale * torch.randn(40, 30, generator=generator) for name in names}

    return ModelSnapshot("random weights", before=draw(0.05), gradient=draw(1e-3))


@pytest.fixture(scope="session")
def small_loss() -> SmoothLoss:
    """A smooth loss of a few dozen weights, with its gradient and empirical Fisher."""
    return observed_network()
