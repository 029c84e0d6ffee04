"""The same bits on every device; these tests need a CUDA device."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from pins import masks
from pins.criteria import CRITERIA
from pins.outcome import finish
from pins.pruner import Pruner
from pins.run import Run
from pins.schedules import CubicSchedule, keep_count
from pins.selection import decide, select
from tests.pins.runs import save_data, save_model, settings
from verification.score_families import FAMILIES, Family

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mask_is_that_of_the_cpu_bit_for_bit(family: Family, dtype: torch.dtype) -> None:
    import numpy as np

    scores = family(np.random.default_rng(0), 3_000_000).clamp(-6e4, 6e4).to(dtype)
    parts = {"a": scores[:1_234_567].reshape(1, -1), "b": scores[1_234_567:]}
    on_cpu = select(parts, 777_777)
    on_gpu = decide({name: part.cuda() for name, part in parts.items()}, 777_777)
    for name, mask in on_cpu.items():
        assert torch.equal(on_gpu.masks[name].cpu(), mask)


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
