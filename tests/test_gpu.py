"""The same bits on every device; these tests need a CUDA device."""

import importlib.util
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pins import masks
from pins.importance.criteria import CRITERIA
from pins.oneshot.run import OneShot
from pins.oneshot.settings import Settings as OneShotSettings
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule
from pins.runs.export import finish
from pins.runs.run import Run
from pins.selection.constraints import keep_count
from pins.selection.runs import extremes_of_runs, filled, largest_of_runs
from pins.selection.scan import float_keys
from pins.selection.scan.dispatch import scan_of
from pins.selection.scan.numpy_backend import ArrayScan
from pins.selection.segments import Piece, each_tensor
from pins.selection.select import decide, largest, select
from pins.utils.lazy_tensors import Computed
from tests.pins.oneshot.tiny_decoders import save_decoder, save_text
from tests.pins.runs.tiny_runs import save_data, save_model, settings
from verification.testing.synthetic_scores import FAMILIES, Family

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mask_is_that_of_the_cpu_bit_for_bit(family: Family, dtype: torch.dtype) -> None:
    scores = family(np.random.default_rng(0), 3_000_000).clamp(-6e4, 6e4).to(dtype)
    parts = {"a": scores[:1_234_567].reshape(1, -1), "b": scores[1_234_567:]}
    on_cpu = select(parts, 777_777)
    on_gpu = decide({name: part.cuda() for name, part in parts.items()}, 777_777)
    for name, mask in on_cpu.items():
        assert torch.equal(on_gpu.masks[name].cpu(), mask)


# ---- Triton's kernels ----------------------------------------------------------------------------

TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


def halves(scores: torch.Tensor) -> dict[str, torch.Tensor]:
    """Two tensors: one not contiguous, one that begins in the middle."""
    return {"a": scores[:1_200_000].view(1000, 1200).T, "b": scores[1_200_001:]}


@TRITON
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("dtype", float_keys.DTYPES)
def test_the_kernels_are_chosen_and_find_what_the_cpu_finds(
    family: Family, dtype: torch.dtype
) -> None:
    from pins.selection.scan.triton_backend import TritonScan

    scores = family(np.random.default_rng(1), 3_000_000).clamp(-6e4, 6e4).to(dtype)
    here, there = halves(scores), halves(scores.cuda())
    assert type(scan_of(here)) is ArrayScan
    assert type(scan_of(there)) is TritonScan
    computed = Computed({n: s.shape for n, s in there.items()}, there.__getitem__)
    assert type(scan_of(computed)) is TritonScan
    for keep in (1, 1_500_000, 2_999_998):
        expected = decide(here, keep)
        for importance in (there, computed):
            decision = decide(importance, keep)
            assert decision.proof == expected.proof
            for name, mask in expected.masks.items():
                assert torch.equal(decision.masks[name].cpu(), mask)


def waits(action: Callable[[], object]) -> int:
    """How often the host waits for the GPU."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            action()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


@TRITON
@pytest.mark.parametrize("held", [True, False])
def test_a_pass_waits_for_the_gpu_once_however_many_tensors_there_are(held: bool) -> None:
    torch.manual_seed(0)
    scores = {f"layer.{i}": torch.randn(100, 99, device="cuda") for i in range(200)}
    shapes = {name: tensor.shape for name, tensor in scores.items()}
    importance = scores if held else Computed(shapes, scores.__getitem__)
    scan = scan_of(importance)
    pieces = [Piece(name, 0, size) for name, size in scan.sizes.items()]
    total = sum(scan.sizes.values())
    low, high = (
        np.full(200, int(float_keys.keys(torch.tensor([score], dtype=torch.float32))))
        for score in (0.5, 0.6)
    )
    every = np.ones_like(low)

    def twice(action: Callable[[], object]) -> int:
        action()  # compiles, and allocates what is then used again
        return waits(action)

    # a sample is drawn tensor by tensor, and waits for all of them
    assert twice(lambda: scan.validate_and_sample([], [])) <= 2
    masks: dict[str, torch.Tensor] = {}
    parted = scan.partition(pieces, low, high, every, masks, total)
    assert int(parted.inside.sum()) == sum(map(len, parted.keys)) > 0
    assert twice(lambda: scan.partition(pieces, low, high, every, masks, total)) <= 2
    assert twice(lambda: scan.count(pieces, high, masks)) == 1


@TRITON
def test_segments_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    here = {"a": torch.randn(1000, 999).half(), "b": torch.randn(130_001).half()}
    there = {name: scores.cuda() for name, scores in here.items()}
    keeps = [scores.numel() // 3 for scores in here.values()]
    expected = largest(here, keeps, each_tensor)
    for name, mask in largest(there, keeps, each_tensor).items():
        assert torch.equal(mask.cpu(), expected[name])


@pytest.mark.parametrize("length", [4, 16, 100, 70_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runs_are_those_of_the_cpu_and_nothing_waits(dtype: torch.dtype, length: int) -> None:
    torch.manual_seed(0)
    here = torch.randn(210_000 // length * length).to(dtype)
    there, keep = here.cuda(), torch.arange(len(here) // length) % (length + 1)
    for k in (length // 2, keep):
        mask = largest_of_runs(here, length, k)
        found = largest_of_runs(there, length, k)
        assert torch.equal(found.cpu(), mask)
        ends = extremes_of_runs(there, found, length)
        for one, other in zip(ends, extremes_of_runs(here, mask, length), strict=True):
            assert torch.equal(one.cpu(), other)
        copy = filled(there, found, torch.inf)
        assert torch.equal(copy.cpu(), filled(here, mask, torch.inf))
    assert waits(lambda: extremes_of_runs(there, largest_of_runs(there, length, 1), length)) == 0


def test_waiting_is_seen() -> None:
    scores = [torch.zeros(3, device="cuda") for _ in range(5)]
    assert waits(lambda: [tensor.sum().item() for tensor in scores]) == 5


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_prunes_a_model_on_the_gpu_exactly(criterion: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Linear(64, 8)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rows = torch.randn(16, 32, device="cuda")

    def loss() -> torch.Tensor:
        squares: torch.Tensor = model(rows).square()
        return squares.mean()

    schedule = CubicSchedule(12, 0.75, cooldown=2, interval=3)
    pruner = Pruner(model, optimizer, criterion, schedule, loss=lambda: loss().item())
    for _ in range(12):
        torch.autograd.backward(loss())
        optimizer.step()
        pruner.step()
        optimizer.zero_grad()
    assert sum(int(p.count_nonzero()) for p in pruner.parameters.values()) == pruner.total // 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_run_on_the_gpu_is_exact_and_goes_on(precision: str, tmp_path: Path) -> None:
    model, data = save_model(tmp_path / "model"), save_data(tmp_path / "data")
    wanted = settings(model, data, device="cuda", precision=precision)
    for _ in islice(Run(wanted, tmp_path / "out").steps(), 7):
        pass
    run = Run(wanted, tmp_path / "out", resume=True)
    assert run.step == 6
    for _ in run.steps():
        pass
    finish(run)
    kept = masks.count(masks.load(tmp_path / "out" / "masks.safetensors"))
    assert kept.kept == keep_count(0.8, kept.total)


def test_a_block_pruned_in_one_shot_is_that_of_the_cpu(tmp_path: Path) -> None:
    model, data = save_decoder(tmp_path / "model"), save_text(tmp_path / "text.txt")
    found = []
    for device in ("cpu", "cuda"):
        wanted = OneShotSettings(
            model=str(model), task="text", data=data, device=device, calibration=4, length=16,
            method="sparsegpt", refit=True,
        )  # fmt: skip
        run = OneShot(wanted, tmp_path / device)
        run.folder.begin(wanted.as_json(), resume=False)
        found.append((next(run.blocks()), load_file(run.folder.shard(0))))
    (here, weights), (there, others) = found
    assert weights.keys() == others.keys()
    for name, layer in here["layers"].items():
        assert there["layers"][name]["kept"] == layer["kept"]
        assert there["layers"][name]["error"] == pytest.approx(layer["error"], rel=1e-2)
