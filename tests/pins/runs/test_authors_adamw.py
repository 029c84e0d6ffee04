"""The training of the released code, against a loop that says again what its script does."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pins.models.distillation_loss import mixed_loss
from pins.runs.authors_adamw import AuthorsAdamW
from pins.runs.finetuning import MAX_GRADIENT_NORM
from pins.runs.optimizer import learning_rate, make_optimizer
from pins.runs.settings import Settings
from pins.tasks import Recipe
from tests.pins.runs.test_finetuning import batch, tuning

transformers = pytest.importorskip("transformers", reason="their linear schedule is compared")

STEPS, WARMUP, RATE, DECAY = 7, 3, 0.01, 0.1
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class EarlierAdamW:
    """The AdamW of earlier transformers, out of place, for one parameter."""

    def __init__(self) -> None:
        self.steps, self.mean, self.square = 0, torch.tensor(0.0), torch.tensor(0.0)

    def step(self, weight: Tensor, gradient: Tensor, rate: float, decay: float) -> Tensor:
        self.steps += 1
        self.mean = torch.add(self.mean * BETA1, gradient, alpha=1 - BETA1)
        self.square = torch.addcmul(self.square * BETA2, gradient, gradient, value=1 - BETA2)
        size = rate * math.sqrt(1 - BETA2**self.steps) / (1 - BETA1**self.steps)
        weight = torch.addcdiv(weight, self.mean, self.square.sqrt() + EPS, value=-size)
        return torch.add(weight, weight, alpha=-rate * decay)


def trained(make: Callable[..., torch.optim.Optimizer], given: list[Tensor]) -> Tensor:
    weight = nn.Parameter(torch.linspace(-1, 1, 35).reshape(5, 7))
    optimizer = make([weight], lr=RATE, weight_decay=DECAY)
    for weight.grad in given:
        optimizer.step()
    return weight.detach()


def test_the_authors_adamw_is_that_of_earlier_transformers() -> None:
    given = [*torch.randn(5, 5, 7, generator=torch.Generator().manual_seed(0))]
    weight, earlier = torch.linspace(-1, 1, 35).reshape(5, 7), EarlierAdamW()
    for gradient in given:
        weight = earlier.step(weight, gradient, RATE, DECAY)
    found = trained(AuthorsAdamW, given)
    assert torch.equal(found, weight)
    assert not torch.equal(trained(torch.optim.AdamW, given), weight)


def test_epsilon_is_added_before_the_bias_is_corrected() -> None:
    # one step without decay, g = ε/√(1−β₂): √v = ε, so that m/(√v + ε)·√c₂/c₁ = ½; torch, whose
    # √(v/c₂) is g: g/(g + ε) = 1/(1 + √0.001)
    gradient = torch.tensor([EPS / math.sqrt(1 - BETA2)], dtype=torch.float64)
    moved = []
    for kind in (AuthorsAdamW, torch.optim.AdamW):
        weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        weight.grad = gradient
        kind([weight], lr=1.0, eps=EPS, weight_decay=0.0).step()
        moved.append(-weight.item())
    assert moved == pytest.approx([1 / 2, 1 / (1 + math.sqrt(0.001))])


def test_a_closure_gives_the_loss_and_a_parameter_without_gradient_stays() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = AuthorsAdamW([used, unused], lr=RATE, weight_decay=DECAY)

    def closure() -> Tensor:
        loss = (used * used).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    assert optimizer.step(closure) == 2.0
    assert torch.equal(unused, torch.ones(2))
    assert (used < 1).all()
    assert [*optimizer.state] == [used]


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_the_rates_are_those_of_transformers_moved_one_step_ahead(warmup: int) -> None:
    settings = Settings(steps=STEPS, warmup=warmup, cooldown=0, learning_rate=RATE)
    settings = settings.resolved(Recipe(1, 4, 0.1, 16), 4)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=RATE)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, warmup, STEPS)
    wanted = []
    for _ in range(STEPS + 1):
        optimizer.step()
        scheduler.step()
        wanted.append(optimizer.param_groups[0]["lr"])
    steps = range(1, STEPS + 2)
    assert [learning_rate(settings, t, scheduler_first=True) for t in steps] == wanted
    assert wanted[-2:] == [0.0, 0.0]
    assert [learning_rate(settings, t) for t in steps] != wanted


def released(names: list[str], model: nn.Module, forward: Callable[[], Tensor]) -> None:
    """The loop of the released script on `names`: clip, scheduler, AdamW; nothing is pruned."""
    parameters = dict(model.named_parameters())
    dummy = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=RATE)
    scheduler = transformers.get_linear_schedule_with_warmup(dummy, WARMUP, STEPS)
    adam = {name: EarlierAdamW() for name in names}
    for _ in range(STEPS):
        model.train()
        torch.autograd.backward(forward())
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        dummy.step()
        scheduler.step()
        for name in names:
            decay = 0.0 if "bias" in name or "LayerNorm.weight" in name else DECAY
            gradient = parameters[name].grad
            assert gradient is not None
            with torch.no_grad():
                weight = adam[name].step(
                    parameters[name], gradient, scheduler.get_last_lr()[0], decay
                )
                parameters[name].copy_(weight)
        model.zero_grad()


@pytest.mark.parametrize(
    "without", [(), ("adamw",), ("scheduler_first",), ("adamw", "scheduler_first")]
)
def test_a_run_of_the_authors_has_the_weights_of_their_loop(without: tuple[str, ...]) -> None:
    given: dict[str, Any] = {
        "criterion": "authors", "smoothing": None, "optimizer": "adamw", "steps": STEPS,
        "warmup": WARMUP, "cooldown": 2, "interval": 99, "learning_rate": RATE,
        "weight_decay": DECAY, "sparsity": 0.0,
    }  # fmt: skip
    # nothing is pruned, which the released threshold refuses
    training = tuning(**given, without_quirks=("loose_threshold", *without))
    other = tuning(**given, without_quirks=("loose_threshold",))
    for _ in range(STEPS):
        training.step([batch()])
    names = [name for name, _ in other.model.named_parameters()]
    rows = batch()

    def forward() -> Tensor:
        output = other.model(**other.head.inputs(other.model, rows))
        return mixed_loss(other.head.rows(output, rows), None, num_items=other.head.count(rows))

    released(names, other.model, forward)
    ours, theirs = training.model.state_dict(), other.model.state_dict()
    same = all(torch.equal(ours[name], theirs[name]) for name in names)
    assert same is not bool(without)


def test_the_authors_leave_out_of_decay_what_has_their_names() -> None:
    # ones without gradient: only decay changes them
    model = nn.ModuleDict({
        "dense": nn.Linear(2, 2), "LayerNorm": nn.LayerNorm(2), "norm": nn.LayerNorm(2),
        "relative_bias": nn.Embedding(2, 2),
    })  # fmt: skip
    wanted = Settings(learning_rate=RATE, weight_decay=DECAY)
    decayed = {}
    for authors in (True, False):
        for parameter in model.parameters():
            nn.init.ones_(parameter)
            parameter.grad = torch.zeros_like(parameter)
        make_optimizer(model, wanted, authors=authors).step()
        decayed[authors] = [name for name, p in model.named_parameters() if (p < 1).all()]
    assert decayed == {
        True: ["dense.weight", "norm.weight"],
        False: ["dense.weight", "relative_bias.weight"],
    }
