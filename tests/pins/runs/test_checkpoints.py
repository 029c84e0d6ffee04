"""Checkpoints are whole, of this run, and bring everything back bit for bit."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.distributed import rng
from pins.errors import CheckpointError, FileError
from pins.models import state_dicts
from pins.runs import checkpoints
from pins.utils.io import read_state, unflatten, write_state
from tests.pins.networks import perceptron

CPU = torch.device("cpu")
FILES = (checkpoints.TENSORS, checkpoints.STATE)
FINGERPRINT = {"sparsity": 0.8, "quirks": ("a", "b"), "model": {"model.safetensors": "12ab"}}


def tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "model/b": torch.randn(3, 4, generator=generator),
        "model/a": torch.randn(5, generator=generator).bfloat16(),
        "masks/b": torch.rand(3, 4, generator=generator) < 0.5,
        "random/cpu": torch.get_rng_state(),
        "optimizer/b/step": torch.tensor(7.0),
    }


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    scalars = {"rate": 0.1 + 0.2, "none": None, "history": [1e-300, 3]}
    place = checkpoints.save(tmp_path / "c", 12, tensors(), scalars, FINGERPRINT)
    assert place == tmp_path / "c" / "step-000012"
    found = checkpoints.load(place, FINGERPRINT)
    assert found.step == 12
    assert found.scalars == scalars
    assert found.tensors.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_the_latest_stands_and_the_earlier_ones_go(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path / "none") is None
    for step in (9, 10, 1_000_000):
        place = checkpoints.save(tmp_path, step, tensors(step), {}, {})
        assert checkpoints.latest(tmp_path) == place
        assert [each.name for each in tmp_path.iterdir()] == [place.name]
    # of the same step again: it takes the place of the earlier one
    place = checkpoints.save(tmp_path, 1_000_000, tensors(1), {"again": True}, {})
    assert checkpoints.load(place, {}).scalars == {"again": True}
    assert [each.name for each in tmp_path.iterdir()] == [place.name]


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-12").mkdir()
    (tmp_path / ".unfinished-x").mkdir()
    checkpoints.save(tmp_path, 1, tensors(), {}, {})
    checkpoints.remove(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["notes.txt", "step-12"]


def test_an_unfinished_checkpoint_is_none(tmp_path: Path) -> None:
    whole = checkpoints.save(tmp_path, 3, tensors(), {}, {})
    torn = tmp_path / ".unfinished-abc"
    shutil.copytree(whole, torn)
    assert checkpoints.latest(tmp_path) == whole


@pytest.mark.parametrize("name", list(FINGERPRINT))
def test_another_run_is_named(tmp_path: Path, name: str) -> None:
    place = checkpoints.save(tmp_path, 3, tensors(), {}, FINGERPRINT)
    with pytest.raises(CheckpointError, match=f"is of another run: its {name} is "):
        checkpoints.load(place, {**FINGERPRINT, name: "other"})
    with pytest.raises(CheckpointError, match=f"is of another run: its {name} is .* is null"):
        checkpoints.load(place, {k: v for k, v in FINGERPRINT.items() if k != name})


@given(st.data())
def test_a_changed_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("c")
    place = checkpoints.save(folder, 3, tensors(), {}, {})
    file = place / checkpoints.TENSORS
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"has SHA-256 .* it is torn or was changed"):
        checkpoints.load(place, {})


def damage(state: dict[str, Any], name: str) -> str:
    if name == "not JSON":
        return json.dumps(state)[:-5]
    if name == "other":
        return json.dumps({"format": "other"})
    if name == "a list":
        return "[]"
    if name == "version":
        return json.dumps({**state, "version": 9})
    return json.dumps({**state, "scalars": {"rate": 0.1}})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("not JSON", "is torn"),
        ("other", "is no pins-checkpoint: give"),
        ("a list", "holds no JSON object, but"),
        ("version", "has version 9 of the format"),
        ("scalars", r"has SHA-256 .* it is torn or was changed"),
    ],
)
def test_a_state_that_is_none(tmp_path: Path, how: str, message: str) -> None:
    place = checkpoints.save(tmp_path, 3, tensors(), {}, {})
    file = place / checkpoints.STATE
    file.write_text(damage(json.loads(file.read_text()), how))
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(place, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scalars": 3}, "is torn: step or scalars of another type"),
        ({"step": 4}, "holds step 4: it was renamed, or is torn"),
        ({"fingerprint": None}, "is torn: it has no fingerprint"),
    ],
)
def test_a_state_with_a_digest_is_read_with_care(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    place = checkpoints.save(tmp_path, 3, tensors(), {}, {})
    state = read_state(place / checkpoints.STATE, checkpoints.FORMAT, checkpoints.VERSION)
    write_state({**state, **changes}, place / checkpoints.STATE)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(place, {})
    write_state(state, place / checkpoints.STATE)
    assert checkpoints.load(place, {}).step == 3
    del state["sha256"]
    (place / checkpoints.STATE).write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="or no digest"):
        checkpoints.load(place, {})


def test_a_renamed_checkpoint_is_refused(tmp_path: Path) -> None:
    place = checkpoints.save(tmp_path, 3, tensors(), {}, {})
    with pytest.raises(CheckpointError, match="step-000009 holds step 3: it was renamed"):
        checkpoints.load(place.rename(tmp_path / "step-000009"), {})


@given(st.data())
def test_a_changed_number_of_the_state_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("s")
    place = checkpoints.save(folder, 3, tensors(), {"loss": [0.25, 3], "due": 7}, {})
    file = place / checkpoints.STATE
    text = file.read_text()
    digits = [at for at, letter in enumerate(text) if letter.isdigit()]
    at = data.draw(st.sampled_from(digits))
    other = data.draw(st.sampled_from([d for d in "123456789" if d != text[at]]))
    file.write_text(text[:at] + other + text[at + 1 :])
    with pytest.raises(CheckpointError):
        checkpoints.load(place, {})
    file.write_text(text.replace("\n", ""))  # the same values in another layout
    assert checkpoints.load(place, {}).scalars["due"] == 7


@pytest.mark.parametrize("name", [checkpoints.TENSORS, checkpoints.STATE])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    place = checkpoints.save(tmp_path, 3, tensors(), {}, {})
    (place / name).unlink()
    with pytest.raises(CheckpointError, match="is torn"):
        checkpoints.load(place, {})


def test_a_folder_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    whole = checkpoints.save(tmp_path / "c", 3, tensors(), {}, {})
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        checkpoints.save(blocked, 4, tensors(), {}, {})
    # a tensor without values cannot be saved: the write fails half way
    with pytest.raises(NotImplementedError):
        checkpoints.save(tmp_path / "c", 4, {"a": torch.empty(2, device="meta")}, {}, {})
    assert checkpoints.latest(tmp_path / "c") == whole
    assert [each.name for each in (tmp_path / "c").iterdir()] == [whole.name]


def test_the_earlier_one_goes_when_the_new_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[tuple[str, list[str]]] = []
    wait = os.fsync

    def watched(handle: int) -> None:
        wait(handle)
        name = Path(f"/proc/self/fd/{handle}").resolve().name
        waited.append((name, sorted(each.name for each in tmp_path.glob("step-*"))))

    checkpoints.save(tmp_path, 3, tensors(), {}, {})
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not tell the name of an open file")
    monkeypatch.setattr(os, "fsync", watched)
    checkpoints.save(tmp_path, 4, tensors(), {}, {})
    files = {name: there for name, there in waited if name in FILES}
    assert files == {name: ["step-000003"] for name in FILES}
    assert waited[-1] == (tmp_path.name, ["step-000003", "step-000004"])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["step-000004"]


def tied() -> nn.Module:
    """Two layers with one weight, a buffer that is saved and one that is not."""
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    model = nn.Sequential(first, second, nn.BatchNorm1d(3))
    model.register_buffer("positions", torch.arange(3), persistent=False)
    return model


def test_a_model_comes_back_in_place_each_tied_tensor_once() -> None:
    model, other = tied(), tied()
    saved = state_dicts.model_tensors(model)
    assert "1.weight" in model.state_dict()
    assert saved.keys() == model.state_dict().keys() - {"1.weight"}
    assert all(t.data_ptr() == model.state_dict()[name].data_ptr() for name, t in saved.items())
    before = other.get_parameter("0.weight").data_ptr()
    state_dicts.load_model(other, saved)
    assert all(torch.equal(t, model.state_dict()[name]) for name, t in other.state_dict().items())
    first, second = (
        dict(other.named_parameters(remove_duplicate=False))[f"{n}.weight"] for n in "01"
    )
    assert first is second
    assert first.data_ptr() == before


@pytest.mark.parametrize("how", ["missing", "more", "shape"])
def test_another_models_tensors_change_nothing(how: str) -> None:
    model = tied()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    saved = {name: t + 1 for name, t in state_dicts.model_tensors(model).items()}
    if how == "missing":
        del saved["2.running_var"]
    elif how == "more":
        saved["1.weight"] = torch.zeros(3, 3)
    else:
        saved["0.bias"] = torch.zeros(1)  # copy_() would spread it over all three
    with pytest.raises(CheckpointError, match="is not the same in the checkpoint and the model"):
        state_dicts.load_model(model, saved)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    take(model, optimizer, steps)
    return model, optimizer


def take(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        loss = model(torch.randn(4, 6)).square().sum()
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()


def test_optimizer_and_random_numbers_go_on_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model, optimizer = trained(3)
    names = {id(p): name for name, p in model.named_parameters()}
    saved = {
        **{f"model/{name}": t for name, t in model.state_dict().items()},
        **{
            f"optimizer/{name}": t
            for name, t in state_dicts.optimizer_tensors(optimizer, names).items()
        },
        **{f"random/{name}": t for name, t in rng.random_state(CPU).items()},
    }
    place = checkpoints.save(tmp_path, 3, saved, {}, {})
    take(model, optimizer, 2)
    other, others = trained(0)
    found = checkpoints.load(place, {}).tensors
    other.load_state_dict(unflatten(found, "model"))
    state_dicts.load_optimizer(
        others, unflatten(found, "optimizer"), dict(other.named_parameters())
    )
    rng.load_random_state(unflatten(found, "random"), CPU)
    take(other, others, 2)
    assert all(torch.equal(p, other.get_parameter(n)) for n, p in model.named_parameters())
