"""A step of fine-tuning: the same however it is cut; clipped, scaled, put back bit for bit."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pins.errors import CheckpointError, ModelError
from pins.importance.curvature.fisher import empirical_fisher
from pins.importance.trust_region.criterion import AVERAGED, OF_FEW_ROWS, TrustRegion
from pins.models.batches import IGNORED, Batch
from pins.models.task_loss import example_losses
from pins.runs.finetuning import MAX_GRADIENT_NORM, FineTuning
from pins.runs.microbatches import microbatches
from pins.runs.optimizer import learning_rate
from pins.runs.settings import Settings
from pins.tasks import Recipe
from pins.utils.devices import Device
from pins.utils.io import save_tensors
from tests.pins.headed import HEADED, head_of

RECIPE = Recipe(epochs=1, batch_size=4, learning_rate=0.1, max_length=16)
PLAIN: dict[str, Any] = {
    "criterion": "pins",
    "smoothing": "none",
    "self_regularization": False,
    "optimizer": "sgd",
    "warmup": 0,
    "cooldown": 0,
    "interval": 1,
    "steps": 3,
}


def tuning(head: str = "classification", *, factor: float = 1.0, **given: Any) -> FineTuning:
    """Of a tiny model without dropout; `factor` enlarges the weights of its classifier."""
    changed = {"dropout_rate": 0.0} if head == "seq2seq" else {}
    headed = HEADED[head]
    model = type(headed)(
        headed.family, headed.kind, {**headed.changes, **changed}, headed.targets
    ).model()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "classifier.weight":
                parameter.mul_(factor)
    settings = Settings(**{**PLAIN, **given}).resolved(RECIPE, 4)
    device = Device(torch.device("cpu"), settings.precision or "float32")
    return FineTuning(model, head_of(head), settings, device)


def batch(head: str = "classification") -> Batch:
    return HEADED[head].batch()


def flat(training: FineTuning) -> Tensor:
    return torch.cat([p.detach().flatten() for p in training.model.parameters()]).clone()


@pytest.mark.parametrize("regularized", [False, True], ids=["task's loss", "mixed loss"])
@pytest.mark.parametrize("head", HEADED)
def test_a_step_in_parts_is_the_step_in_one(head: str, regularized: bool) -> None:
    whole = tuning(head, self_regularization=regularized)
    losses = [whole.step([batch(head)]) for _ in range(3)]
    for number in (2, 3):
        cut = tuning(head, self_regularization=regularized)
        assert [cut.step(microbatches(batch(head), number)) for _ in range(3)] == pytest.approx(
            losses
        )
        assert torch.allclose(flat(cut), flat(whole), atol=1e-4)
        masks = whole.pruner.masks
        assert all(torch.equal(mask, masks[name]) for name, mask in cut.pruner.masks.items())


def test_the_mean_of_the_parts_means_is_another_step() -> None:
    whole = tuning("tokens").step([batch("tokens")])
    alone = [tuning("tokens").step([part]) for part in microbatches(batch("tokens"), 3)]
    assert sum(alone) / 3 != pytest.approx(whole, rel=1e-3)


def test_rows_without_a_prediction_add_nothing() -> None:
    silent = batch("tokens")
    silent["labels"] = torch.full_like(silent["labels"], IGNORED)
    first, second = tuning("tokens"), tuning("tokens")
    assert first.step([batch("tokens"), silent]) == second.step([batch("tokens")])
    assert torch.equal(flat(first), flat(second))
    assert tuning("tokens").step([silent]) == 0.0


def test_the_gradient_is_clipped_and_a_small_one_is_not() -> None:
    for factor, clipped in ((1.0, False), (100.0, True)):
        training = tuning(sparsity=0.0, learning_rate=1e-3, factor=factor)
        before = flat(training)
        training.step([batch()])
        # plain SGD: the displacement is the rate times what is left of the gradient
        norm = ((flat(training) - before).norm() / 1e-3).item()
        assert (norm == pytest.approx(MAX_GRADIENT_NORM, rel=1e-3)) is clipped
        assert norm < MAX_GRADIENT_NORM * 1.001


@given(st.integers(1, 300), st.data())
def test_the_rate_rises_in_the_warm_up_and_falls_to_nothing(
    steps: int, data: st.DataObject
) -> None:
    warmup = data.draw(st.integers(0, steps - 1))
    settings = Settings(steps=steps, warmup=warmup, cooldown=0, learning_rate=0.1)
    settings = settings.resolved(RECIPE, 4)
    rates = [learning_rate(settings, step) for step in range(1, steps + 2)]
    assert rates[warmup] == 0.1 == max(rates)
    assert all(0 < a < b for a, b in pairwise(rates[: warmup + 1]))
    assert all(a > b for a, b in pairwise(rates[warmup:]))
    assert rates[-2] == pytest.approx(0.1 / (steps - warmup))
    assert rates[-1] == 0.0
    # straight lines: every step of a phase is as large as any other
    rise, fall = 0.1 / (warmup + 1), 0.1 / (steps - warmup)
    assert rates[:warmup] == pytest.approx([rise * step for step in range(1, warmup + 1)])
    assert rates[warmup:] == pytest.approx([0.1 - fall * n for n in range(steps + 1 - warmup)])


def test_each_step_is_taken_at_its_rate() -> None:
    training = tuning(sparsity=0.0, warmup=2, steps=6)
    for step in range(1, 7):
        group = training.optimizer.param_groups[0]
        assert group["lr"] == learning_rate(training.settings, step)
        before = flat(training)
        training.step([batch()])
        assert not torch.equal(flat(training), before)
    before = flat(training)
    training.step([batch()])
    assert torch.equal(flat(training), before)


def scale(training: FineTuning) -> float:
    return float(training.state()[1]["scaler"]["scale"])


def test_an_overflow_takes_no_step_and_the_decision_follows_at_the_next() -> None:
    training = tuning(factor=40.0, precision="float16", steps=5)
    before, first = flat(training), scale(training)
    training.step([batch()])
    assert scale(training) == first / 2
    assert torch.equal(flat(training), before)
    assert training.pruner.sparsity == 0.0
    assert not training.pruner.finished
    taken = 0
    while not training.pruner.sparsity:
        taken += 1
        training.step([batch()])
        assert training.optimizer.param_groups[0]["lr"] == learning_rate(
            training.settings, taken + 2
        )
    assert not torch.equal(flat(training), before)
    step = training.pruner.steps
    wanted = training.settings.pruning_schedule().sparsity(step)
    assert training.pruner.sparsity == pytest.approx(float(wanted), abs=1e-3)
    # the same weights without the factor do not overflow
    other = tuning(precision="float16", steps=5)
    other.step([batch()])
    assert scale(other) == first
    assert other.pruner.sparsity > 0


@pytest.mark.parametrize("factor", [1.0, 2.0], ids=["not clipped", "clipped"])
def test_a_scaled_loss_takes_the_same_step(factor: float) -> None:
    displacements, importances = [], []
    for precision in ("float32", "float16"):
        training = tuning(factor=factor, precision=precision, learning_rate=1e-3, warmup=1)
        before = flat(training)
        training.step([batch()])
        displacements.append(flat(training) - before)
        training.pruner._on_decision = lambda _, scores, __: importances.append(dict(scores))
        training.step([batch()])
    exact, scaled = displacements
    assert torch.allclose(scaled, exact, atol=2e-2 * exact.abs().max().item())
    for name, scores in importances[0].items():
        assert torch.allclose(importances[1][name], scores, atol=5e-2 * scores.abs().max().item())


def test_an_overflow_at_the_last_step_leaves_the_run_unfinished() -> None:
    training = tuning(factor=40.0, precision="float16", steps=1)
    training.step([batch()])
    assert training.pruner.steps == 1
    assert not training.pruner.finished


@pytest.mark.parametrize(
    ("optimizer", "criterion"), [("sgd", "pins"), ("adamw", "pins"), ("sgd", "trust-region")]
)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_what_was_read_out_is_put_back_bit_for_bit(
    precision: str, optimizer: str, criterion: str
) -> None:
    given: dict[str, Any] = {
        "precision": precision,
        "optimizer": optimizer,
        "factor": 40.0,
        "steps": 8,
        "criterion": criterion,
        "smoothing": None,
        "self_regularization": True,
    }
    whole, cut = tuning(**given), tuning(**given)
    for _ in range(4):
        cut.step([batch()])
    tensors, scalars = cut.state()
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    other = tuning(**given)
    other.load_state(tensors, scalars)
    for _ in range(8):
        whole.step([batch()])
    for _ in range(4):
        other.step([batch()])
    assert torch.equal(flat(other), flat(whole))
    assert not torch.equal(flat(other), flat(cut))
    assert other.state()[1] == whole.state()[1]


def test_the_state_of_another_model_is_refused() -> None:
    tensors, scalars = tuning("tokens").state()
    training = tuning()
    before = flat(training)
    with pytest.raises(CheckpointError, match=r"does not fit this model: 'bert.pooler.+' is not"):
        training.load_state(tensors, scalars)
    assert torch.equal(flat(training), before)
    tensors, scalars = training.state()
    wider = {**tensors, "model/classifier.bias": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"'classifier\.bias' is not the same in the check"):
        training.load_state(wider, scalars)
    torn = {name: t for name, t in tensors.items() if not name.startswith("random")}
    with pytest.raises(CheckpointError, match="does not fit this model: 'cpu'"):
        training.load_state(torn, scalars)


class Allocated(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the tensors that operations make within the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            given = [a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)]
            if found.untyped_storage().data_ptr() not in given:
                self.bytes += found.nbytes
        return found


def test_a_checkpoint_holds_no_second_copy_of_what_it_saves(tmp_path: Any) -> None:
    training = tuning("causal", optimizer="adamw", self_regularization=True)
    training.step([batch("causal")])
    with Allocated() as allocated:
        tensors, _ = training.state()
        save_tensors(tensors, tmp_path / "state", {})
    model = sum(p.nbytes for p in training.model.parameters())
    assert sum(t.nbytes for t in tensors.values()) > 4 * model  # weights, moments, teacher, masks
    assert allocated.bytes < model / 10 + torch.get_rng_state().nbytes
    with Allocated() as allocated:
        tensors["model/transformer.wte.weight"].clone()
    assert allocated.bytes == tensors["model/transformer.wte.weight"].nbytes


def test_weights_that_are_not_contiguous_are_pruned_and_put_back(tmp_path: Any) -> None:
    def transposed() -> FineTuning:
        training = tuning(smoothing="window")
        weight = training.model.get_parameter("bert.encoder.layer.0.intermediate.dense.weight")
        weight.data = weight.data.t().contiguous().t()
        assert not weight.is_contiguous()
        return training

    plain, training = tuning(smoothing="window"), transposed()
    for _ in range(2):
        assert plain.step([batch()]) == training.step([batch()])
    for name, mask in plain.pruner.masks.items():
        assert torch.equal(mask, training.pruner.masks[name])
    tensors, scalars = training.state()
    save_tensors(tensors, tmp_path / "state", {})
    other = transposed()
    other.load_state({name: t.clone() for name, t in tensors.items()}, scalars)
    assert training.step([batch()]) == other.step([batch()])
    assert torch.equal(flat(training), flat(other))


def test_activations_computed_twice_give_the_same_step() -> None:
    once, twice = tuning(), tuning(gradient_checkpointing=True)
    assert once.step([batch()]) == twice.step([batch()])
    assert torch.equal(flat(once), flat(twice))


def test_a_model_that_cannot_compute_them_twice_is_named() -> None:
    model = nn.Linear(2, 2)
    settings = Settings(**PLAIN, gradient_checkpointing=True).resolved(RECIPE, 4)
    with pytest.raises(ModelError, match="Linear cannot compute activations twice: leave gradient"):
        FineTuning(model, head_of("tokens"), settings, Device(torch.device("cpu"), "float32"))


def test_what_is_frozen_is_not_trained_nor_pruned() -> None:
    model = HEADED["classification"].model()
    frozen = model.get_parameter("bert.encoder.layer.0.output.dense.weight")
    frozen.requires_grad_(False)
    before = frozen.clone()
    settings = Settings(**PLAIN).resolved(RECIPE, 4)
    device = Device(torch.device("cpu"), "float32")
    training = FineTuning(model, head_of("classification"), settings, device)
    for _ in range(3):
        training.step([batch()])
    assert training.pruner.finished
    assert torch.equal(frozen, before)
    assert "bert.encoder.layer.0.output.dense.weight" not in training.pruner.masks


@pytest.mark.parametrize("curvature", [None, "fisher", "hutchinson"])
def test_sgd_ranks_by_the_curvature_of_its_own_rows(curvature: str | None) -> None:
    training = tuning("tokens", criterion="obd", curvature=curvature, sparsity=0.0)
    heard: list[dict[str, Tensor]] = []
    training.pruner._on_decision = lambda _, scores, __: heard.append(dict(scores))
    rows = microbatches(batch("tokens"), 2)
    training.step(rows)  # nothing is pruned: the weights are those that were ranked
    parameters = training.pruner.parameters
    fisher = empirical_fisher(parameters, example_losses(training.model, rows, training.head))
    same = [
        torch.allclose(heard[0][name], fisher[name] * parameter.detach().square() / 2)
        for name, parameter in parameters.items()
    ]
    assert all(same) == (curvature != "hutchinson")
    assert any(bool(scores.any()) for scores in heard[0].values())


def test_adamw_ranks_by_the_curvature_that_it_keeps_unless_another_is_named() -> None:
    kept = tuning(criterion="obd", optimizer="adamw")
    named = tuning(criterion="obd", optimizer="adamw", curvature="fisher")
    heard: list[dict[str, Tensor]] = []
    for training in (kept, named):
        training.pruner._on_decision = lambda _, scores, __: heard.append(dict(scores))
        training.step([batch()])
    state = kept.optimizer.state
    for name, parameter in kept.pruner.parameters.items():
        mask = kept.pruner.masks[name]
        moment = state[parameter]["exp_avg_sq"] / (1 - 0.999)
        expected = moment * parameter.detach().square() / 2
        assert torch.allclose(heard[0][name][mask], expected[mask], rtol=1e-4)
        assert not torch.allclose(heard[0][name], heard[1][name])


# what decisions do to the loss


def with_dropout(**given: Any) -> FineTuning:
    """As `tuning`, with dropout of the size that BERT has it in."""
    training = tuning("classification", **given)
    for module in training.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    return training


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_measuring_draws_nothing_and_changes_nothing(precision: str) -> None:
    trained = []
    for measure in (True, False):
        training = with_dropout(measure=measure, precision=precision, criterion="abs-pins")
        torch.manual_seed(1)
        losses = [training.step([batch()]) for _ in range(3)]
        assert (training.pruner.loss_change is not None) is measure
        trained.append((flat(training), torch.get_rng_state(), losses))
        assert all(m.training for m in training.model.modules() if isinstance(m, nn.Dropout))
    assert torch.equal(trained[0][0], trained[1][0])
    assert torch.equal(trained[0][1], trained[1][1])
    assert trained[0][2] == trained[1][2]
    # and what is drawn does make a difference here
    again = with_dropout(criterion="abs-pins", precision=precision)
    torch.manual_seed(2)
    assert [again.step([batch()]) for _ in range(3)] != trained[0][2]


@pytest.mark.parametrize("head", HEADED)
def test_what_is_measured_is_the_loss_of_the_whole_step_however_it_is_cut(head: str) -> None:
    found = []
    for number in (1, 3):
        training = tuning(head, criterion="trust-region", optimizer="adamw", steps=2)
        training.step(microbatches(batch(head), number))
        measurement = training.pruner.loss_change
        assert measurement is not None
        dense = training._measured() - measurement.measured
        assert dense > 0
        assert measurement.multiplier is not None
        found.append((dense, measurement))
    (first, one), (second, other) = found
    assert first == pytest.approx(second, rel=1e-4)
    assert one.measured == pytest.approx(other.measured, rel=1e-2, abs=1e-4)
    assert one.predicted == pytest.approx(other.predicted, rel=1e-2, abs=1e-4)


@pytest.mark.parametrize(
    ("given_", "damping"),
    [
        ({"optimizer": "adamw"}, AVERAGED),
        ({"optimizer": "adamw", "curvature": "hutchinson"}, OF_FEW_ROWS),
        ({"optimizer": "sgd"}, OF_FEW_ROWS),
    ],
)
def test_a_curvature_of_few_rows_is_damped_more(given_: dict[str, Any], damping: float) -> None:
    criterion = tuning(criterion="trust-region", radius=0.25, **given_).pruner.criterion
    assert criterion == TrustRegion(radius=0.25, damping=damping)


def test_a_trust_region_measures_whether_it_is_asked_to_or_not() -> None:
    training = tuning(criterion="trust-region", smoothing=None, measure=False, optimizer="adamw")
    training.step([batch()])
    assert training.pruner.loss_change is not None
    assert training.pruner.loss_change.multiplier is not None


@pytest.mark.parametrize(
    ("precision", "advice"),
    [("float32", "rate$"), ("float16", "rate, or give another precision$")],
)
def test_a_loss_that_is_not_finite_says_what_to_do(precision: str, advice: str) -> None:
    training = tuning(precision=precision)
    with torch.no_grad():
        training.model.get_parameter("classifier.bias").fill_(float("nan"))
    with pytest.raises(ModelError, match=f"the loss of step 1 is nan: lower the learning {advice}"):
        training.step([batch()])


def test_too_little_memory_says_what_to_do() -> None:
    class Greedy(nn.Module):
        def forward(self, *_: object, **__: object) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    training = tuning()
    training.model.bert = Greedy()
    with pytest.raises(ModelError, match="step 1 does not fit into the memory of cpu: give a larg"):
        training.step([batch()])
