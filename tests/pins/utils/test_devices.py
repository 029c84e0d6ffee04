"""Devices and precisions: what is asked for, or what there is; 16 bits by autocast alone."""

import pytest
import torch

from pins.errors import DeviceError
from pins.utils.devices import PRECISIONS, Device, choose_device

CPU = torch.device("cpu")


def test_the_automatic_choice_is_there_and_computes() -> None:
    device = choose_device()
    assert torch.ones(2, device=device.device).sum() == 2
    if device.device.type == "cpu":
        assert device.precision == "float32"  # so that a run repeats bit for bit


@pytest.mark.parametrize("precision", PRECISIONS)
def test_matrix_products_alone_have_the_precision_asked_for(precision: str) -> None:
    device = choose_device("cpu", precision)
    assert device == Device(CPU, precision)
    matrix = torch.eye(4)
    with device.autocast():
        assert (matrix @ matrix).dtype == getattr(torch, precision)
        assert (matrix + matrix).dtype == torch.float32
    assert (matrix @ matrix).dtype == torch.float32


def test_float16_alone_needs_a_scaled_loss() -> None:
    scalers = {precision: Device(CPU, precision).scaler() for precision in PRECISIONS}
    assert [name for name, scaler in scalers.items() if scaler is not None] == ["float16"]
    scaler = scalers["float16"]
    assert scaler is not None
    assert scaler.is_enabled()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("abacus", "'abacus' is no device: give cuda, mps or cpu"),
        ("", "'' is no device: give cuda, mps or cpu"),
        ("meta", "there is no device 'meta' here: there is .*cpu"),
        ("cuda:99", "there is no device 'cuda:99' here: there is .*cpu"),
    ],
)
def test_a_device_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        choose_device(name)


def test_a_precision_that_is_none() -> None:
    with pytest.raises(DeviceError, match="no precision 'float8': choose one of float32, bfloat16"):
        choose_device("cpu", "float8")


def test_each_of_several_processes_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in (None, "cuda"):
        for rank in range(2):
            found = choose_device(name, "float32", local_rank=rank)
            assert found.device == torch.device("cuda", rank)
        with pytest.raises(DeviceError, match="there are 2 CUDA devices here, and process 3 wants"):
            choose_device(name, "float32", local_rank=2)
    assert choose_device("cpu", "float32", local_rank=5).device == torch.device("cpu")
    for name in ("cuda:1", "mps"):
        with pytest.raises(DeviceError, match=f"device is '{name}', and several processes compute"):
            choose_device(name, "float32", local_rank=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None, local_rank=5).device == torch.device("cpu")
    with pytest.raises(DeviceError, match="there is no device 'cuda:0' here: there is cpu"):
        choose_device("cuda", local_rank=0)
