"""Costs are counted and measured; measuring leaves the model, bit for bit, as it was."""

import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins import masks as masks_module
from pins.errors import FileError, MaskError, SettingError
from pins.models.parameters import prunable_parameters
from pins.runs.costs import (
    Costs,
    Disk,
    Layer,
    Weights,
    count_weights,
    measure_disk,
    percent,
    rows,
)
from pins.runs.latency import LEAST_RUNS, ZEROS, Latency, Timing, latency
from tests.pins.networks import perceptron, tiny, tiny_batch

BATCH = {"input": torch.ones(3, 6)}
FAST: dict[str, Any] = {"runs": LEAST_RUNS, "warmup": 1}


def pruned(model: nn.Module, *, ratio: float = 0.75) -> dict[str, Tensor]:
    """Masks of the model's prunable weights, applied."""
    parameters = prunable_parameters(model).parameters
    generator = torch.Generator().manual_seed(0)
    masks = {
        name: torch.rand(parameter.shape, generator=generator) > ratio
        for name, parameter in parameters.items()
    }
    masks_module.apply(masks, parameters)
    return masks


def weight_of(network: nn.Module, layer: int) -> nn.Parameter:
    return network.get_parameter(f"{layer}.weight")


# weights ---------------------------------------------------------------------------------------


def test_weights_are_counted_by_layer_and_in_all() -> None:
    model = perceptron()
    masks = pruned(model)
    with torch.no_grad():
        weight_of(model, 0)[masks["0.weight"].nonzero()[0].tolist()[0]] = 0  # kept, zero by chance
    weights = count_weights(model, masks)
    assert weights.parameters == 6 * 8 + 8 + 8 * 4 + 4
    assert weights.prunable == 80
    assert weights.kept == sum(int(mask.sum()) for mask in masks.values())
    for layer in weights.layers:
        assert layer.kept == int(masks[layer.name].sum())
        assert layer.nonzero == int(model.get_parameter(layer.name).count_nonzero())
        assert layer.sparsity == pytest.approx(1 - layer.kept / layer.total)
    assert weights.layers[0].nonzero < weights.layers[0].kept
    assert weights.collapsed == ()


def test_layers_of_zeros_are_named_whoever_made_them() -> None:
    model = perceptron()
    masks = pruned(model)
    masks["2.weight"][:] = False
    masks_module.apply({"2.weight": masks["2.weight"]}, {"2.weight": weight_of(model, 2)})
    assert count_weights(model, masks).collapsed == ("2.weight",)
    with torch.no_grad():
        weight_of(model, 0).zero_()
    assert count_weights(model, masks).collapsed == ("0.weight", "2.weight")


def test_a_mask_that_was_not_applied_is_not_reported() -> None:
    model = perceptron()
    masks = pruned(model)
    assert weight_of(model, 0)[~masks["0.weight"]].tolist() == [0] * int((~masks["0.weight"]).sum())
    at = (~masks["0.weight"]).nonzero()[0].tolist()
    with torch.no_grad():
        weight_of(model, 0)[at[0], at[1]] = 1e-45
    with pytest.raises(
        MaskError, match=r"1 weights of '0\.weight' are not zero .* apply the masks"
    ):
        count_weights(model, masks)


def test_masks_of_other_parameters_are_refused() -> None:
    masks = {"x": torch.ones(1, dtype=torch.bool)}
    with pytest.raises(MaskError, match="'x' has a mask but no tensor"):
        count_weights(perceptron(), masks)
    with pytest.raises(MaskError, match="'x' has a mask but no tensor"):
        latency(perceptron(), BATCH, masks)


def test_shared_parameters_count_once() -> None:
    model: Any = tiny("Bert", "ForMaskedLM")
    masks = pruned(model)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert count_weights(model, masks).parameters == sum(p.numel() for p in model.parameters())
    assert len(dict(model.named_parameters(remove_duplicate=False))) > len(list(model.parameters()))


@given(whole=st.integers(1, 10**12), data=st.data())
def test_percentages_are_the_nearest_but_for_all_and_nothing(
    whole: int, data: st.DataObject
) -> None:
    part = data.draw(st.one_of(st.integers(0, whole), st.sampled_from([0, 1, whole - 1, whole])))
    shown = Fraction(percent(part, whole).removesuffix(" %"))
    exact = Fraction(100 * part, whole)
    if Fraction(1, 100) <= exact <= 100 - Fraction(1, 100):
        assert abs(shown - exact) <= Fraction(1, 200)
    assert (shown == 0) == (part == 0)
    assert (shown == 100) == (part == whole)


def test_almost_everything_is_not_everything() -> None:
    assert percent(999_999, 1_000_000) == "99.99 %"
    assert percent(1, 1_000_000) == "0.01 %"
    assert percent(10_298_316, 10_616_832) == "97.00 %"
    assert percent(1, 1) == "100.00 %"
    assert percent(0, 0) == "0.00 %"


# bytes -----------------------------------------------------------------------------------------


def test_bytes_are_those_of_the_files_and_of_a_zip_of_them(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    zipped = {}
    for name, size in (("a", 3 << 20), ("b", 5), ("packed", 1000), ("empty", 0)):
        numbers = torch.randint(0, 50, (size,), generator=generator, dtype=torch.uint8)
        (tmp_path / name).write_bytes(numbers.numpy().tobytes())
        with zipfile.ZipFile(tmp_path / "zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / name)
            zipped[name] = archive.infolist()[0].compress_size
    disk = measure_disk([tmp_path / "a", tmp_path / "b"], tmp_path / "packed")
    assert disk == Disk((3 << 20) + 5, 1000, zipped["a"] + zipped["b"], zipped["packed"])
    assert measure_disk([], tmp_path / "empty") == Disk(0, 0, 0, zipped["empty"])


def test_a_file_that_is_not_there_has_no_size(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="missing cannot be read: No such file"):
        measure_disk([tmp_path / "missing"], tmp_path / "missing")


# latency ---------------------------------------------------------------------------------------


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything that a measurement could have changed."""
    return {
        "bits": {n: t.clone().view(torch.int32) for n, t in model.state_dict().items()},
        "memory": {n: p.data_ptr() for n, p in model.named_parameters()},
        "objects": [id(p) for p in model.parameters()],
        "gradients": [p.grad for p in model.parameters()],
        "trained": [p.requires_grad for p in model.parameters()],
        "training": [module.training for module in model.modules()],
        "attributes": [set(vars(module)) for module in model.modules()],
        "random": torch.get_rng_state(),
    }


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return (
        all(torch.equal(bits, second["bits"][name]) for name, bits in first["bits"].items())
        and torch.equal(first["random"], second["random"])
        and all(first[key] == second[key] for key in first.keys() - {"bits", "random"})
    )


class Spy(nn.Module):
    """Sees the weights of each forward pass, draws a random number, and may fail at one."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.network = perceptron()
        self.dropout = nn.Dropout(0.5)
        self.seen: list[Tensor] = []
        self.modes: list[tuple[bool, bool]] = []
        self.fail_at = fail_at

    def forward(self, input: Tensor) -> Any:  # noqa: A002
        self.seen.append(weight_of(self.network, 0).detach().clone())
        self.modes.append((self.training, torch.is_grad_enabled()))
        torch.rand(1)
        if len(self.seen) == self.fail_at:
            raise KeyError("mine")
        return self.dropout(self.network(input))


@pytest.fixture
def model() -> Spy:
    """In training but for one part; with special bits among the kept weights."""
    spy = Spy()
    spy.network[2].eval()
    return spy


def masks_of(spy: Spy) -> dict[str, Tensor]:
    masks = pruned(spy)
    kept = masks["network.0.weight"].nonzero()
    with torch.no_grad():
        for at, value in zip(kept.tolist(), (-0.0, 0.0, 1e-45), strict=False):
            weight_of(spy.network, 0)[at[0], at[1]] = value
    return masks


def test_a_measurement_leaves_no_trace(model: Spy) -> None:
    masks = masks_of(model)
    before = snapshot(model)
    latency(model, BATCH, masks, **FAST)
    assert same(before, snapshot(model))
    with torch.no_grad():
        weight_of(model.network, 0)[0, 0] += 1
    assert not same(before, snapshot(model))  # a trace would be seen


@pytest.mark.parametrize("fail_at", range(1, 8))
def test_an_error_in_a_forward_pass_leaves_no_trace(fail_at: int) -> None:
    spy = Spy(fail_at)
    masks = masks_of(spy)
    before = snapshot(spy)
    with pytest.raises(KeyError, match="mine"):
        latency(spy, BATCH, masks, **FAST)
    assert same(before, snapshot(spy))


def test_networks_take_turns_without_dropout_and_gradients(model: Spy) -> None:
    masks = masks_of(model)
    weight, mask = weight_of(model.network, 0).detach().clone(), masks["network.0.weight"]
    measured = latency(model, BATCH, masks, runs=6, warmup=2, csr=False)
    assert measured.runs == 6
    assert set(model.modes) == {(False, False)}
    assert len(model.seen) == 2 * (6 + 2)
    for dense, zeros in zip(model.seen[::2], model.seen[1::2], strict=True):
        assert torch.equal(zeros, weight)
        assert torch.equal(dense[mask], weight[mask])
        assert dense[~mask].all()
        assert (dense[~mask].abs() == dense[~mask][0].abs()).all()


def test_numbers_in_place_of_zeros_are_as_large_as_the_kept_ones() -> None:
    spy = Spy()
    masks = {"network.0.weight": torch.zeros(8, 6, dtype=torch.bool)}
    masks["network.0.weight"][0, :2] = True
    with torch.no_grad():
        weight_of(spy.network, 0).copy_(
            masks["network.0.weight"] * torch.tensor([3.0, 4, 0, 0, 0, 0])
        )
    latency(spy, BATCH, masks, csr=False, **FAST)
    assert spy.seen[0][1:].abs().tolist() == [pytest.approx([12.5**0.5] * 6)] * 7
    # where nothing is kept, there is no size to go by
    nothing = {"network.0.weight": torch.zeros(8, 6, dtype=torch.bool)}
    masks_module.apply(nothing, {"network.0.weight": weight_of(spy.network, 0)})
    spy.seen.clear()
    latency(spy, BATCH, nothing, csr=False, **FAST)
    assert spy.seen[0].isfinite().all()
    assert spy.seen[0].all()


def test_sparse_matrices_give_the_same_output() -> None:
    outputs: list[Tensor] = []

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = perceptron()
            self.network[2].register_parameter("bias", None)

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            outputs.append(self.network(input))
            return outputs[-1]

    recorder = Recorder()
    data = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    measured = latency(recorder, {"input": data}, pruned(recorder), runs=LEAST_RUNS, warmup=0)
    assert measured.csr is not None
    assert measured.no_csr is None
    first, (dense, zeros, sparse) = outputs[0], outputs[1:4]
    assert torch.equal(first, sparse)
    assert torch.allclose(zeros, sparse, atol=1e-6)
    assert zeros.shape == sparse.shape
    assert not torch.allclose(dense, sparse, atol=1e-3)


def test_layers_that_store_the_transpose_are_measured_as_sparse_matrices_too() -> None:
    model = tiny("GPT2", "LMHeadModel")
    masks = pruned(model)
    batch = {"input_ids": torch.tensor([[1, 2, 3, 4]])}
    outputs: list[Tensor] = []
    model.register_forward_hook(lambda *call: outputs.append(call[-1].logits))
    measured = latency(model, batch, masks, runs=LEAST_RUNS, warmup=0)
    assert measured.csr is not None
    first, (_, zeros, sparse) = outputs[0], outputs[1:4]
    assert torch.equal(first, sparse)
    assert torch.allclose(zeros, sparse, atol=1e-6)


def test_a_language_model_is_measured() -> None:
    model = tiny("Bert", "ForSequenceClassification")
    before = snapshot(model)
    masks = pruned(model)
    assert not same(before, snapshot(model))
    before = snapshot(model)
    measured = latency(model, tiny_batch(), masks, **FAST)
    assert same(before, snapshot(model))
    assert measured.device == "cpu"
    assert measured.threads == torch.get_num_threads()
    assert measured.dtype == "float32"
    assert measured.batch == {"input_ids": (2, 4), "attention_mask": (2, 4), "labels": (2,)}
    for timing in (measured.dense, measured.pruned, measured.csr):
        assert timing is not None
        assert 0 < timing.lower <= timing.median <= timing.upper


def test_where_sparse_matrices_do_not_work_it_is_said_why() -> None:
    network = nn.Sequential(nn.Conv1d(6, 4, 1))
    mask = torch.rand(4, 6, 1, generator=torch.Generator().manual_seed(0)) > 0.5
    masks_module.apply({"w": mask}, {"w": weight_of(network, 0)})
    measured = latency(network, {"input": torch.ones(2, 6, 3)}, {"0.weight": mask}, **FAST)
    assert measured.csr is None
    assert measured.no_csr == "no masked weight belongs to a linear layer"
    half = perceptron(dtype=torch.float16)
    measured = latency(half, {"input": torch.ones(3, 6).half()}, pruned(half), **FAST)
    assert (measured.csr is None) == (measured.no_csr is not None)
    assert measured.dtype == "float16"


@pytest.mark.parametrize("given", [{"runs": 4}, {"warmup": -1}])
def test_too_few_runs_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="give at least 5 and 0"):
        latency(perceptron(), BATCH, {}, **given)


def measured(dense: float, pruned_: float, spread: float, csr: float | None = None) -> Latency:
    """A measurement of these medians, with the dense runs spread."""
    half = dense * spread / 2
    return Latency(
        device="cpu",
        threads=2,
        dtype="float32",
        batch={"input_ids": (16, 128)},
        runs=11,
        dense=Timing(dense - half, dense, dense + half),
        pruned=Timing(pruned_, pruned_, pruned_),
        csr=None if csr is None else Timing(csr, csr, csr),
        no_csr="no such matrices" if csr is None else None,
    )


@pytest.mark.parametrize(
    ("dense", "pruned_", "verdict"),
    [
        (10.0, 10.0, f"no speed-up: {ZEROS} (ratio 1.00, the noise of repeated runs is 10.0%)"),
        (10.0, 9.2, f"no speed-up: {ZEROS} (ratio 1.09, the noise of repeated runs is 10.0%)"),
        (10.0, 10.9, f"no speed-up: {ZEROS} (ratio 0.92, the noise of repeated runs is 10.0%)"),
        (10.0, 8.0, "1.25 times as fast as dense (the noise of repeated runs is 10.0%)"),
        (10.0, 12.0, "slower than dense, takes 1.20 times as long (the noise of repeated runs is"),
    ],
)
def test_a_difference_counts_where_it_is_greater_than_the_noise(
    dense: float, pruned_: float, verdict: str
) -> None:
    found = measured(dense, pruned_, 0.1)
    assert found.verdict(found.pruned).startswith(verdict)


def test_times_that_vary_by_more_than_a_half_say_nothing() -> None:
    found = measured(10, 10, 0.1)
    fast_but_noisy = Timing(1.0, 2.0, 7.26)  # five times as fast by the medians
    assert found.verdict(fast_but_noisy) == "not known (the noise of repeated runs is 313.0%)"
    assert found.verdict(Timing(1.6, 2.0, 2.4)).startswith("5.00 times as fast")


def test_the_noise_is_the_larger_spread() -> None:
    found = measured(10, 10, 0.1)
    for timing, noise in ((Timing(9, 10, 12), "30.0%"), (Timing(10, 10, 10), "10.0%")):
        assert f"the noise of repeated runs is {noise}" in found.verdict(timing)
    assert Timing.of([3, 1, 2, 5, 4]) == Timing(2, 3, 4)


def test_sparse_matrices_get_no_excuse_of_dense_ones() -> None:
    found = measured(10, 10, 0.1, csr=10.5)
    assert found.csr is not None
    assert ZEROS not in found.verdict(found.csr)


# the report ------------------------------------------------------------------------------------


def report(**changes: Any) -> Costs:
    layers = (Layer("a.weight", 800, 30, 29), Layer("b.weight", 200, 0, 0))
    parts: dict[str, Any] = {
        "weights": Weights(2000, layers),
        "disk": Disk(8000, 1000, 4000, 900),
        "latency": measured(10, 10, 0.1, csr=5),
    }
    return Costs(**{**parts, **changes})


def test_the_report_is_json_and_says_what_was_counted() -> None:
    value = json.loads(json.dumps(report().as_json()))
    assert value["weights"]["kept"] == 30
    assert value["weights"]["prunable"] == 1000
    assert value["weights"]["collapsed"] == ["b.weight"]
    assert value["weights"]["layers"][0] == {
        "name": "a.weight",
        "total": 800,
        "kept": 30,
        "nonzero": 29,
        "sparsity": 0.9625,
    }
    assert value["disk"]["packed_zipped"] == 900
    assert value["latency"]["batch"] == {"input_ids": [16, 128]}
    assert value["latency"]["verdict"].startswith("no speed-up: zeros")
    assert value["latency"]["csr_verdict"].startswith("2.00 times as fast")


def lines(costs: Costs) -> list[str]:
    return [" ".join(row).strip() for row in rows(costs.as_json())]


def test_the_rows_say_it_in_words() -> None:
    told = lines(report())
    assert told == [
        "parameters 2,000",
        "prunable 1,000 50.00 % of all",
        "kept 30 3.00 % of the prunable",
        "pruned 970 sparsity 97.00 % of the prunable, 48.50 % of all",
        "layers all zero 1 b.weight",
        "dense file, bytes 8,000 4,000 zipped",
        "packed file, bytes 1,000 900 zipped; dense / packed = 8.00",
        "latency dense, ms 10.00 cpu, threads: 2, float32, input_ids 16 × 128; median of 11 runs",
        f"latency pruned, ms 10.00 no speed-up: {ZEROS} (ratio 1.00, the noise of repeated runs is "
        "10.0%)",
        "latency as CSR, ms 5.00 2.00 times as fast as dense (the noise of repeated runs is 10.0%)",
    ]


def test_what_is_not_there_is_left_out_and_a_reason_is_given() -> None:
    whole = report(weights=Weights(2, (Layer("a", 1, 1, 1),)), latency=measured(10, 10, 0.1))
    assert not any("layers all zero" in line for line in lines(whole))
    assert lines(whole)[-1] == "latency as CSR – no such matrices"
