"""The pruner with what people train with: compiled, scaled, half, adapted, tied; architectures."""

import copy
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pins.errors import ModelError, ObservationError, ParameterError
from pins.importance.smoothing import Uncertainty
from pins.models.heads import find_head
from pins.models.parameters import prunable_parameters
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, OneShotSchedule
from pins.selection.constraints import keep_count
from pins.selection.select import Decision
from tests.pins.architectures import (
    ARCHITECTURES,
    CAUSAL,
    DOCUMENT,
    SEQ2SEQ,
    batch_for,
    filled,
    head_of,
    table,
)
from tests.pins.networks import perceptron, tiny

STEPS = 6
SCHEDULE = CubicSchedule(steps=STEPS, final_sparsity=0.8, interval=2)  # decides at 2, 4, 6
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "momentum": lambda model: torch.optim.SGD(trained(model), lr=0.05, momentum=0.9),
    "nesterov": lambda model: torch.optim.SGD(trained(model), lr=0.05, momentum=0.9, nesterov=True),
    "adamw": lambda model: torch.optim.AdamW(trained(model), lr=0.01),
    "adamw-loop": lambda model: torch.optim.AdamW(trained(model), lr=0.01, foreach=False),
    "adamw-foreach": lambda model: torch.optim.AdamW(trained(model), lr=0.01, foreach=True),
    "adamw-fused": lambda model: torch.optim.AdamW(trained(model), lr=0.01, fused=True),
    "adamw-amsgrad": lambda model: torch.optim.AdamW(trained(model), lr=0.01, amsgrad=True),
}


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def classifier() -> Any:
    return tiny("Bert", "ForSequenceClassification", num_labels=3, **NO_DROPOUT)


def text_batches(count: int = STEPS) -> Iterator[dict[str, Tensor]]:
    """Eight texts of ten words each, whose class is that of the first word."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        words = torch.randint(3, 10, (8, 5), generator=generator)
        yield {"input_ids": words, "labels": words[:, 0] % 3}


def pruner_of(model: nn.Module, optimizer: Optimizer, **options: Any) -> Pruner:
    return Pruner(model, optimizer, "abs-pins", SCHEDULE, **{"smoothing": Uncertainty(), **options})


def train(
    model: Any,
    optimizer: str = "adamw",
    *,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    parts: int = 1,
) -> Pruner:
    """Six steps with three decisions, looked at after each step."""
    taking = OPTIMIZERS[optimizer](model)
    pruner = pruner_of(model, taking)
    model.train()
    for batch in text_batches():
        for number in range(parts):
            part = {name: tensor.tensor_split(parts)[number] for name, tensor in batch.items()}
            with around():
                loss = model(**part).loss / parts
            torch.autograd.backward(loss)
        taking.step()
        decision = pruner.step()
        if decision is not None:
            assert decision.proof.holds
        assert_zeros(pruner)
        taking.zero_grad()
    assert_exact(pruner)
    return pruner


def assert_zeros(pruner: Pruner) -> None:
    """What is pruned is +0."""
    for name, parameter in pruner.parameters.items():
        pruned = parameter.detach()[~pruner.masks[name]]
        assert not pruned.any()
        assert not pruned.signbit().any()


def assert_exact(pruner: Pruner, sparsity: float = 0.8) -> None:
    """As many are kept as asked for, and no more are not zero."""
    kept = sum(int(mask.sum()) for mask in pruner.masks.values())
    nonzero = sum(int(parameter.count_nonzero()) for parameter in pruner.parameters.values())
    assert nonzero <= kept == keep_count(sparsity, pruner.total)
    assert pruner.finished


def same_masks(first: Pruner, second: Pruner) -> bool:
    assert first.masks.keys() == second.masks.keys()
    return all(torch.equal(mask, second.masks[name]) for name, mask in first.masks.items())


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    others = dict(second.named_parameters())
    return all(torch.equal(weight, others[name]) for name, weight in first.named_parameters())


# optimisers


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_prunes_exactly(name: str) -> None:
    train(classifier(), name)


@pytest.mark.parametrize("name", ["adamw-loop", "adamw-foreach"])
def test_how_an_optimizer_loops_does_not_change_the_masks(name: str) -> None:
    model, other = classifier(), classifier()
    assert same_masks(train(model), train(other, name))
    assert same_weights(model, other)


def test_another_optimizer_does(  # the control
) -> None:
    assert not same_masks(train(classifier(), "adamw"), train(classifier(), "momentum"))


# compiled


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_is_pruned_as_the_model_itself(backend: str) -> None:
    def run(compiled: bool) -> tuple[nn.Module, Pruner]:
        model = perceptron()
        network: Any = torch.compile(model, backend=backend) if compiled else model
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
        pruner = pruner_of(network, optimizer)
        generator = torch.Generator().manual_seed(0)
        for _ in range(STEPS):
            data = torch.randn(10, 6, generator=generator)
            torch.autograd.backward(network(data).square().mean())
            optimizer.step()
            pruner.step()
            assert_zeros(pruner)
            optimizer.zero_grad()
        assert_exact(pruner)
        return model, pruner

    model, plain = run(compiled=False)
    other, compiled = run(compiled=True)
    assert list(compiled.parameters) == ["0.weight", "2.weight"]
    assert same_masks(plain, compiled)
    assert same_weights(model, other)


def test_the_names_of_a_compiled_transformer_are_its_own() -> None:
    model = classifier()
    compiled: Any = torch.compile(model, backend="eager")
    pruner = pruner_of(compiled, OPTIMIZERS["adamw"](compiled))
    assert pruner.parameters.keys() == prunable_parameters(model).parameters.keys()
    assert all(model.get_parameter(name) is weight for name, weight in pruner.parameters.items())


# half precision


def half() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("name", ["momentum", "adamw", "adamw-fused"])
def test_autocast_prunes_exactly_and_repeats_itself(name: str) -> None:
    model = classifier()
    first = train(model, name, around=half)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert same_masks(first, train(classifier(), name, around=half))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_models_of_other_dtypes_are_pruned_exactly(dtype: torch.dtype) -> None:
    pruner = train(classifier().to(dtype))
    assert {parameter.dtype for parameter in pruner.parameters.values()} == {dtype}


# scaled gradients


SCALED = ["momentum", "adamw-loop", "adamw-foreach", "adamw-fused"]


class Scaled:
    """Training with GradScaler in which the gradients of some steps overflow."""

    def __init__(
        self, optimizer: str, *, scale: float, overflows: Sequence[int] = (), unscale: bool = False
    ) -> None:
        self.model = perceptron()
        self.decisions: dict[int, Decision] = {}
        taking = OPTIMIZERS[optimizer](self.model)
        self.pruner = pruner_of(self.model, taking)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
        generator = torch.Generator().manual_seed(0)
        for number in range(1, STEPS + 1):
            data = torch.randn(10, 6, generator=generator)
            factor = float("inf") if number in overflows else 1.0
            loss: Tensor = scaler.scale(self.model(data).square().mean() * factor)
            torch.autograd.backward(loss)
            before = copy.deepcopy(self.model.state_dict())
            if unscale:
                scaler.unscale_(taking)
                nn.utils.clip_grad_norm_(self.model.parameters(), 1e6)
            scaler.step(taking)
            scaler.update()
            self.averages = self.pruner.smoothing.state_dict()
            decision = self.pruner.step()
            if decision is not None:
                self.decisions[number] = decision
            if number in overflows:
                self._require_untouched(before, decision)
            assert_zeros(self.pruner)
            taking.zero_grad()

    def _require_untouched(self, before: dict[str, Tensor], decision: Decision | None) -> None:
        assert decision is None
        assert all(torch.equal(tensor, before[n]) for n, tensor in self.model.state_dict().items())
        averages = self.pruner.smoothing.state_dict()
        assert averages.keys() == self.averages.keys()
        assert all(torch.equal(tensor, self.averages[n]) for n, tensor in averages.items())


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("name", SCALED)
def test_scores_see_unscaled_gradients(name: str, unscale: bool) -> None:
    # a power of two takes no digit away, and the two differ between the steps of an average
    plain = Scaled(name, scale=1.0)
    scaled = Scaled(name, scale=2.0**10, unscale=unscale)
    assert sorted(plain.decisions) == [2, 4, 6]
    assert same_masks(plain.pruner, scaled.pruner)
    assert same_weights(plain.model, scaled.model)
    averages, others = (each.pruner.smoothing.state_dict() for each in (plain, scaled))
    assert all(torch.equal(average, others[name]) for name, average in averages.items())
    assert_exact(scaled.pruner)


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("name", SCALED)
def test_an_overflow_takes_no_decision_and_the_next_step_takes_it(name: str, unscale: bool) -> None:
    run = Scaled(name, scale=2.0**10, overflows=(1, 4), unscale=unscale)
    assert sorted(run.decisions) == [2, 5, 6]
    assert run.decisions[5].proof.keep == keep_count(SCHEDULE.sparsity(5), 80)
    assert_exact(run.pruner)


def test_a_decision_is_due_until_a_step_is_taken() -> None:
    run = Scaled("adamw-fused", scale=2.0**10, overflows=(2, 3))
    assert sorted(run.decisions) == [4, 6]
    late = Scaled("adamw-fused", scale=2.0**10, overflows=(6,))
    assert sorted(late.decisions) == [2, 4]
    assert not late.pruner.finished


@pytest.mark.parametrize("name", SCALED)
def test_a_step_that_was_forgotten_is_no_overflow(name: str) -> None:
    model = perceptron()
    taking = OPTIMIZERS[name](model)
    pruner = pruner_of(model, taking)
    torch.autograd.backward(model(torch.ones(2, 6)).square().mean())
    with pytest.raises(ObservationError, match="has taken no step since the last time"):
        pruner.step()


# adapters and frozen layers


def adapted(**options: Any) -> Any:
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings(action="ignore"):  # it calls what transformers is to remove
        config = peft.LoraConfig(**{"r": 2, "target_modules": ["query", "value"], **options})
        return peft.get_peft_model(classifier(), config)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"task_type": "SEQ_CLS"},  # trains the head, too
        {"task_type": "SEQ_CLS", "target_modules": "all-linear"},
        {"bias": "all"},
        {"use_dora": True},
    ],
)
def test_beside_adapters_nothing_is_prunable(options: dict[str, Any]) -> None:
    with pytest.raises(
        ParameterError,
        match=r"^Peft\w+ has no prunable weight \(\S+\.query\.base_layer\.weight: frozen; \S+ lora",
    ) as caught:
        prunable_parameters(adapted(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["LilyConfig", "PeanutConfig", "ShadowConfig"])
def test_adapters_are_those_that_peft_says(kind: str) -> None:
    peft = pytest.importorskip("peft")
    if not hasattr(peft, kind):
        pytest.skip(f"this version of peft has no {kind}")
    config = getattr(peft, kind)(target_modules=["query", "value"], r=2)
    with warnings.catch_warnings(action="ignore"):
        model = peft.get_peft_model(classifier(), config)
    with pytest.raises(ParameterError, match="has no prunable weight"):
        prunable_parameters(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert not any("lora_" in name for name in trained)


def test_weights_thawed_beside_adapters_are_prunable_and_the_adapters_are_not() -> None:
    model = adapted(task_type="SEQ_CLS")
    for name, parameter in model.named_parameters():
        if "intermediate.dense" in name:
            parameter.requires_grad_(True)
    names = list(prunable_parameters(model).parameters)
    assert [name.split("layer.")[1] for name in names] == [
        "0.intermediate.dense.weight",
        "1.intermediate.dense.weight",
    ]
    train(model)


def test_a_model_with_its_adapters_merged_is_prunable_again() -> None:
    model = adapted(task_type="SEQ_CLS").merge_and_unload()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    assert prunable_parameters(model).parameters.keys() == (
        prunable_parameters(classifier()).parameters.keys()
    )


def test_frozen_layers_are_left_as_they_are() -> None:
    model = classifier()
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[0].requires_grad_(False)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    pruner = train(model)
    assert pruner.total == 4 * 8 * 8 + 2 * 8 * 16
    assert all(name.startswith("bert.encoder.layer.1.") for name in pruner.parameters)
    assert all(torch.equal(model.get_parameter(name), each) for name, each in frozen.items())


# tied weights


def test_tied_weights_are_pruned_and_counted_once() -> None:
    model = perceptron()
    twice = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Tanh(), model, nn.Linear(4, 6))
    first: Any = twice[0]
    last = nn.Linear(6, 6, bias=False)
    last.weight = first.weight
    twice.append(last)
    optimizer = torch.optim.AdamW(twice.parameters(), lr=0.05)
    pruner = pruner_of(twice, optimizer)
    assert list(pruner.parameters) == ["0.weight", "2.0.weight", "2.2.weight", "3.weight"]
    assert pruner.total == 36 + 48 + 32 + 24
    for number in range(STEPS):
        data = torch.randn(10, 6, generator=torch.Generator().manual_seed(number))
        torch.autograd.backward((twice(data) - data).square().mean())
        optimizer.step()
        pruner.step()
        assert_zeros(pruner)
        optimizer.zero_grad()
    assert_exact(pruner)
    assert torch.equal(last.weight == 0, ~pruner.masks["0.weight"])


# recomputed and accumulated gradients


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_does_not_change_the_masks(reentrant: bool) -> None:
    plain, checkpointed = classifier(), classifier()
    if reentrant:
        checkpointed.enable_input_require_grads()
    checkpointed.activation_checkpointing_enable({"use_reentrant": reentrant})
    called = 0

    def count(*_: object) -> None:
        nonlocal called
        called += 1

    checkpointed.bert.encoder.layer[0].attention.self.register_forward_hook(count)
    assert same_masks(train(plain), train(checkpointed))
    assert same_weights(plain, checkpointed)
    assert called == 2 * STEPS  # once forward, once again for the gradient


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_one_batch(parts: int) -> None:
    """In whole numbers, where no sum depends on its order."""

    def run(parts: int) -> tuple[nn.Module, Pruner]:
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randint(-4, 5, parameter.shape, generator=generator))
        optimizer = torch.optim.SGD(model.parameters(), lr=2.0**-10)
        schedule = OneShotSchedule(0.6)
        pruner = Pruner(model, optimizer, "pins", schedule)
        data = torch.randint(-3, 4, (8, 6), generator=generator).double()
        for part in data.chunk(parts):
            torch.autograd.backward(model(part).square().sum() / 8)
        optimizer.step()
        pruner.step()
        return model, pruner

    model, whole = run(1)
    other, accumulated = run(parts)
    assert same_masks(whole, accumulated)
    assert same_weights(model, other)
    assert_exact(accumulated, 0.6)


def test_a_transformer_accumulates_exactly_pruned() -> None:
    train(classifier(), parts=4)


# architectures


CASES = [
    (name, auto_class)
    for name, architecture in ARCHITECTURES.items()
    for auto_class in architecture.auto_classes
]
OUTSIDE = "embed|shared|wte|wpe|relative|pool|classif|score|qa_outputs|lm_head"


@pytest.mark.parametrize(("name", "auto_class"), CASES)
def test_an_architecture_is_pruned_exactly_where_the_document_says(
    name: str, auto_class: str
) -> None:
    model = ARCHITECTURES[name].model(auto_class)
    found = prunable_parameters(model)
    linear = {
        f"{path}.weight"
        for path, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D")
    }
    # all linear layers of the numbered blocks, and nothing else
    assert found.parameters.keys() == {each for each in linear if re.search(r"\.\d+\.", each)}
    assert not [each for each in found.parameters if re.search(OUTSIDE, each)]
    assert find_head(model) is head_of(auto_class)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    pruner = Pruner(
        model, optimizer, "obd", CubicSchedule(steps=3, final_sparsity=0.7), parameters=found
    )
    others = {
        each: parameter.detach().clone()
        for each, parameter in model.named_parameters()
        if each not in found.parameters
    }
    batch = batch_for(auto_class)
    for _ in range(3):
        torch.autograd.backward(model(**batch).loss)
        optimizer.step()
        pruner.step()
        assert_zeros(pruner)
        optimizer.zero_grad()
    assert_exact(pruner, 0.7)
    for each, before in others.items():
        after = model.get_parameter(each)
        assert int((after == 0).sum()) <= int((before == 0).sum()), each


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("name", "auto_class"), [case for case in CASES if case[1] in (CAUSAL, SEQ2SEQ)]
)
def test_output_embeddings_are_left_out_tied_or_not(name: str, auto_class: str, tied: bool) -> None:
    model = ARCHITECTURES[name].model(auto_class, tie_word_embeddings=tied)
    output, words = model.get_output_embeddings(), model.get_input_embeddings()
    assert (output.weight is words.weight) is tied
    why = prunable_parameters(model).left_out["lm_head.weight"]
    assert why.startswith("tied to") if tied else why == "task head"


@pytest.mark.parametrize("tied", [False, True])
def test_output_embeddings_within_a_decoder_are_left_out(tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    decoder = ARCHITECTURES["GPT-2"].model(
        CAUSAL, tie_word_embeddings=tied, add_cross_attention=True, is_decoder=True
    )
    # with attention to the encoder, which the configuration asks for before the model is made
    decoder = type(decoder)(decoder.config)
    model = transformers.EncoderDecoderModel(encoder=tiny("Bert", "Model"), decoder=decoder)
    found = prunable_parameters(model)
    why = found.left_out["decoder.lm_head.weight"]
    assert why.startswith("tied to") if tied else why == "task head"
    assert "decoder.transformer.h.1.crossattention.c_attn.weight" in found.parameters
    assert find_head(model).name == "seq2seq"


def test_a_model_without_a_head_that_pins_knows_can_be_pruned_without_a_teacher() -> None:
    model = tiny("Bert", "ForMaskedLM")
    assert len(prunable_parameters(model).parameters) == 12
    with pytest.raises(ModelError, match="BertForMaskedLM has no head that PINS knows: give one"):
        find_head(model)


def test_the_document_has_the_table_that_the_models_give() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert filled(document) == document, "run `python -m tests.pins.architectures`"


def test_a_table_that_is_out_of_date_is_found() -> None:
    stale = DOCUMENT.read_text(encoding="utf-8").replace("`intermediate.dense`", "`dense`")
    assert table() in filled(stale) != stale
