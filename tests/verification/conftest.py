from pathlib import Path

import pytest
import torch

from tests.tiny_model import save_tiny_bert
from tests.verification.small_network import observed_network
from verification.real_model import RealModel
from verification.smooth_loss import SmoothLoss


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="the tiny model is a transformers model")
    return save_tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def small_real() -> RealModel:
    """Weights and gradients in the shape of a model, small enough for every claim."""
    generator = torch.Generator().manual_seed(0)
    names = [f"bert.encoder.layer.{i}.{part}.weight" for i in range(2) for part in ("key", "dense")]

    def draw(scale: float) -> dict[str, torch.Tensor]:
        return {name: scale * torch.randn(40, 30, generator=generator) for name in names}

    return RealModel("random weights", before=draw(0.05), gradient=draw(1e-3))


@pytest.fixture(scope="session")
def small_loss() -> SmoothLoss:
    """A smooth loss of a few dozen weights, with its gradient and empirical Fisher."""
    return observed_network()
