"""The teacher: a copy in as little memory as it takes, which training leaves alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pins.errors import CheckpointError, ModelError, SettingError
from pins.models.heads import CLASSIFICATION, SEQ2SEQ, Distributions, Head
from pins.models.teacher import Teacher, fast_dtype
from tests.pins.headed import HEADED, head_of
from tests.pins.networks import BagClassifier, examples, tiny, tiny_batch

CPU_FLAGS = Path("/proc/cpuinfo")
EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
CLASSIFIER = "classifier.weight"


def bert(*, labels: int = 3, seed: int = 0, **changes: Any) -> nn.Module:
    model = tiny("Bert", "ForSequenceClassification", num_labels=labels, **changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return model


def disturbed(model: nn.Module) -> None:
    """As an optimiser would: what is trained changes in place."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)


def storages(model: nn.Module) -> dict[int, int]:
    """Bytes by address of all parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def logits(teacher: Teacher, head: Head = CLASSIFICATION) -> Tensor:
    batch = tiny_batch() if head is CLASSIFICATION else HEADED[head.name].batch()
    rows = head.rows(teacher(head, batch), batch)
    assert isinstance(rows, Distributions)
    return rows.logits


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_takes_the_memory_of_what_is_trained(name: str, dtype: torch.dtype) -> None:
    student = HEADED[name].model()
    for index, parameter in enumerate(student.parameters()):
        parameter.requires_grad_(index % 3 > 0)
    teacher = Teacher(student, dtype=dtype)
    before = storages(student)
    new = {at: size for at, size in storages(teacher.model).items() if at not in before}
    assert sum(new.values()) == sum(
        p.numel() * (dtype.itemsize if p.dim() > 1 else 4)
        for p in student.parameters()
        if p.requires_grad
    )
    assert sum(p.numel() for p in student.parameters() if not p.requires_grad) > 0
    # a plain copy takes all of it again
    assert len(storages(copy.deepcopy(student)).keys() - before.keys()) == len(before)


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("frozen", [False, True])
def test_it_predicts_what_the_student_did(name: str, dtype: torch.dtype, frozen: bool) -> None:
    headed, head = HEADED[name], head_of(name)
    student, batch = headed.model(), headed.batch()
    for parameter_name, parameter in student.named_parameters():
        if any(part in parameter_name for part in ("embeddings", "wte", "shared")):
            parameter.requires_grad_(not frozen)
    with torch.no_grad():
        expected = head.rows(student(**batch), batch)
    teacher = Teacher(student, dtype=dtype)
    disturbed(student)
    found = head.rows(teacher(head, batch), batch)
    tolerance = 0 if dtype is torch.float32 else 0.05
    for first, second in zip(vars(found).values(), vars(expected).values(), strict=True):
        torch.testing.assert_close(
            first, second, rtol=tolerance, atol=tolerance, check_dtype=tolerance == 0
        )


def test_frozen_parameters_and_constant_buffers_are_those_of_the_student() -> None:
    student = bert()
    student.get_parameter(EMBEDDINGS).requires_grad_(False)
    teacher = Teacher(student)
    for name, parameter in teacher.model.named_parameters():
        same = parameter.data_ptr() == student.get_parameter(name).data_ptr()
        assert same == (name == EMBEDDINGS)
        assert not parameter.requires_grad
    buffers = dict(teacher.model.named_buffers())
    assert buffers
    for name, buffer in student.named_buffers():
        assert buffers[name] is buffer


class Normalised(nn.Module):
    """With running statistics, which training changes without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, words: Tensor, labels: Tensor | None = None) -> Any:
        return type("Output", (), {"logits": self.norm(words), "loss": labels})


def test_running_statistics_are_not_those_of_the_student() -> None:
    student = Normalised()
    teacher = Teacher(student, dtype=torch.bfloat16)
    batch = {"words": torch.randn(8, 2), "labels": torch.zeros(8)}
    before = teacher(CLASSIFICATION, batch).logits
    student(batch["words"])
    assert student.norm.num_batches_tracked is not None
    assert int(student.norm.num_batches_tracked) == 1
    assert torch.equal(teacher(CLASSIFICATION, batch).logits, before)
    teacher.copy_student()
    assert not torch.equal(teacher(CLASSIFICATION, batch).logits, before)
    for name, tensor in student.state_dict().items():
        assert torch.equal(teacher.model.state_dict()[name], tensor)


@pytest.mark.parametrize("name", ["causal", "seq2seq"])
@pytest.mark.parametrize("frozen", [False, True])
def test_tied_weights_stay_tied(name: str, frozen: bool) -> None:
    student = HEADED[name].model()
    student.requires_grad_(not frozen)
    model = Teacher(student).model
    embedding, head = (
        getattr(model, get)().weight for get in ("get_input_embeddings", "get_output_embeddings")
    )
    assert embedding is head
    assert len(dict(model.named_parameters())) == len(dict(student.named_parameters()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_student_is_copied_in_place(dtype: torch.dtype) -> None:
    student = bert()
    student.get_parameter(EMBEDDINGS).requires_grad_(False)
    teacher = Teacher(student, dtype=dtype)
    places = storages(teacher.model)
    before = values(teacher.model)
    disturbed(student)
    assert torch.equal(logits(teacher), logits(teacher))
    torch.testing.assert_close(values(teacher.model), before, rtol=0, atol=0)
    teacher.copy_student()
    assert storages(teacher.model) == places
    for name, tensor in student.state_dict().items():
        found = teacher.model.state_dict()[name]
        assert torch.equal(found, tensor.to(found.dtype))
        assert torch.equal(found, before[name]) == (name == EMBEDDINGS)


def test_zeros_of_a_pruned_student_are_zeros_of_the_teacher() -> None:
    student = bert()
    teacher = Teacher(student, dtype=torch.bfloat16)
    with torch.no_grad():
        student.get_parameter(CLASSIFIER)[:, ::2] = 0
    teacher.copy_student()
    assert torch.equal(
        teacher.model.get_parameter(CLASSIFIER) == 0, student.get_parameter(CLASSIFIER) == 0
    )


def test_what_is_thawed_is_no_longer_shared() -> None:
    student = bert()
    embeddings = student.get_parameter(EMBEDDINGS).requires_grad_(False)
    teacher = Teacher(student, dtype=torch.float32)
    before = logits(teacher)
    embeddings.requires_grad_(True)
    assert torch.equal(logits(teacher), before)
    disturbed(student)
    assert torch.equal(logits(teacher), before)
    assert teacher.model.get_parameter(EMBEDDINGS).data_ptr() != embeddings.data_ptr()
    teacher.copy_student()
    assert torch.equal(teacher.model.get_parameter(EMBEDDINGS), embeddings)


def test_no_random_number_is_drawn_and_the_student_stays_in_training() -> None:
    student = bert(hidden_dropout_prob=0.5).train()
    state = torch.get_rng_state()
    teacher = Teacher(student)
    logits(teacher)
    teacher.copy_student()
    logits(teacher)
    assert torch.equal(torch.get_rng_state(), state)
    assert student.training
    assert not any(module.training for module in teacher.model.modules())
    student(**tiny_batch())
    assert not torch.equal(torch.get_rng_state(), state)


def test_it_computes_no_loss_keeps_no_cache_and_no_graph() -> None:
    headed = HEADED[SEQ2SEQ.name]
    student, batch = headed.model(), headed.batch()
    output = Teacher(student, dtype=torch.float32)(SEQ2SEQ, batch)
    assert output.loss is None
    assert output.past_key_values is None
    assert not output.logits.requires_grad
    inputs = SEQ2SEQ.inputs(student, batch)
    assert student(**inputs).past_key_values is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_only_float32_is_narrowed(dtype: torch.dtype) -> None:
    student = bert().to(dtype)
    teacher = Teacher(student, dtype=torch.float16)
    assert {p.dtype for p in teacher.model.parameters()} == {dtype}
    with torch.no_grad():
        expected = student.eval()(**tiny_batch()).logits
    assert torch.equal(logits(teacher), expected)


def test_a_model_that_needs_its_targets_gets_them() -> None:
    student, batch = BagClassifier(), examples().batch([0, 1, 2])
    with torch.no_grad():
        expected = student.eval()(**batch).logits
    assert torch.equal(Teacher(student)(CLASSIFICATION, batch).logits, expected)


def test_weights_of_another_model_are_copied_and_that_model_is_left_alone() -> None:
    student, dense = bert(seed=0), bert(seed=1).train()
    for model in (student, dense):
        model.get_parameter(EMBEDDINGS).requires_grad_(False)
        model.get_parameter("bert.pooler.dense.weight").requires_grad_(False)
    with torch.no_grad():
        dense.get_parameter(EMBEDDINGS).copy_(student.get_parameter(EMBEDDINGS))
    before, places = values(dense), storages(dense)
    teacher = Teacher(student, dense, torch.float32)
    shared = storages(student).keys() & storages(teacher.model).keys()
    assert student.get_parameter(EMBEDDINGS).untyped_storage().data_ptr() in shared
    assert not storages(teacher.model).keys() & places.keys()
    torch.testing.assert_close(values(teacher.model), before, rtol=0, atol=0)
    with torch.no_grad():
        assert torch.equal(logits(teacher), dense.eval()(**tiny_batch()).logits)
    teacher.copy_student()
    torch.testing.assert_close(values(teacher.model), values(student), rtol=0, atol=0)
    torch.testing.assert_close(values(dense), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"labels": 2}, r"has 'classifier.weight' of shape \(2, 8\), the model of shape \(3, 8\)"),
        ({"hidden_size": 4}, r"has \S+ of shape \(10, 4\), the model of shape \(10, 8\)"),
        ({"num_hidden_layers": 1}, r"has no 'bert.encoder.layer.1.\S+', which the model has"),
        ({"num_hidden_layers": 3}, r"has 'bert.encoder.layer.2.\S+', which the model has not"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    other: dict[str, Any], difference: str
) -> None:
    message = (
        rf"^the teacher {difference}: give a fine-tuned copy of the model, with the same head$"
    )
    with pytest.raises(ModelError, match=message):
        Teacher(bert(), bert(**other))


def test_a_dtype_that_is_none_for_weights_is_refused() -> None:
    with pytest.raises(SettingError, match=r"the teacher's dtype is torch.int8: choose one of"):
        Teacher(bert(), dtype=torch.int8)


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    student: Any = bert()
    student.computed = student.get_parameter(CLASSIFIER) * 2
    message = "BertForSequenceClassification cannot be copied for a teacher: Only Tensors created"
    with pytest.raises(ModelError, match=message):
        Teacher(student)


def test_a_model_whose_forward_holds_on_to_it_is_refused() -> None:
    student: Any = bert()
    original = student.forward
    student.forward = lambda **batch: original(**batch)
    message = "BertForSequenceClassification cannot be copied for a teacher: its forward was repl"
    with pytest.raises(ModelError, match=message):
        Teacher(student)


@pytest.mark.parametrize("wrap", ["compiled", "compiled in place", "parallel"])
def test_a_wrapped_student_is_unwrapped(wrap: str) -> None:
    model: Any = bert()
    wrapped: Any = model
    if wrap == "compiled":
        wrapped = torch.compile(model, backend="eager")
    elif wrap == "compiled in place":
        model.compile(backend="eager")
    else:
        wrapped = nn.DataParallel(model)
    teacher = Teacher(wrapped, wrapped, torch.float32)
    assert type(teacher.model) is type(model)
    expected = model.eval()(**tiny_batch()).logits
    assert torch.equal(logits(teacher), expected)
    disturbed(model)
    teacher.copy_student()
    assert not torch.equal(logits(teacher), expected)


def test_a_student_that_accelerate_has_wrapped_is_not_run_in_place_of_the_teacher() -> None:
    accelerate = pytest.importorskip("accelerate")
    # one state a process, which other tests may have set and others will
    forget = accelerate.state.AcceleratorState._reset_state
    forget(reset_partial_state=True)
    try:
        student = accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare_model(bert())
    finally:
        forget(reset_partial_state=True)
    assert "forward" in vars(student)
    teacher = Teacher(student, dtype=torch.float32)
    before = logits(teacher)
    disturbed(student)
    assert torch.equal(logits(teacher), before)


@pytest.mark.skipif(not CPU_FLAGS.is_file(), reason="this system does not list what its CPU can")
def test_16_bits_are_the_default_where_the_cpu_has_instructions_for_them() -> None:
    flags = CPU_FLAGS.read_text().split()
    fast = "avx512_bf16" in flags or "amx_bf16" in flags
    expected = torch.bfloat16 if fast else torch.float32
    assert fast_dtype(torch.device("cpu")) == expected
    assert Teacher(bert()).model.get_parameter(CLASSIFIER).dtype == expected
    assert fast_dtype(torch.device("meta")) == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("name", HEADED)
def test_it_predicts_on_the_gpu_what_the_student_did(name: str) -> None:
    headed, head = HEADED[name], head_of(name)
    student = headed.model().cuda()
    batch = {key: tensor.cuda() for key, tensor in headed.batch().items()}
    for parameter_name, parameter in student.named_parameters():
        parameter.requires_grad_("embeddings" not in parameter_name)
    with torch.no_grad():
        expected = head.rows(student(**batch), batch)
    teacher = Teacher(student)
    found = head.rows(teacher(head, batch), batch)
    for first, second in zip(vars(found).values(), vars(expected).values(), strict=True):
        torch.testing.assert_close(first, second, rtol=0.05, atol=0.05, check_dtype=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_state_is_restored_bit_for_bit_in_its_dtype(
    dtype: torch.dtype, stored: torch.dtype
) -> None:
    first, second = bert(seed=0), bert(seed=1)
    for student in (first, second):
        student.get_parameter(EMBEDDINGS).requires_grad_(False)
    teacher, again = Teacher(first, bert(seed=2), stored), Teacher(second, dtype=dtype)
    disturbed(first)
    own, shared = teacher.state_dict()
    second.load_state_dict(first.state_dict())
    again.load_state_dict(own, shared)
    assert torch.equal(logits(again), logits(teacher))
    for name, tensor in teacher.model.state_dict().items():
        found = again.model.state_dict()[name]
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor)
    disturbed(second)
    again.copy_student()
    assert again.state_dict()[0].keys() == own.keys()


def test_what_is_shared_is_not_in_the_state() -> None:
    student = bert()
    student.get_parameter(EMBEDDINGS).requires_grad_(False)
    own, shared = Teacher(student).state_dict()
    assert shared == [EMBEDDINGS]
    assert own.keys() | {EMBEDDINGS} == dict(student.named_parameters()).keys()
    tied, _ = Teacher(HEADED["seq2seq"].model()).state_dict()
    assert len({tensor.data_ptr() for tensor in tied.values()}) == len(tied)


def test_sharing_is_as_in_the_state() -> None:
    student, dense = bert(seed=0), bert(seed=1)
    for model in (student, dense):
        model.get_parameter(EMBEDDINGS).requires_grad_(False)
    separate, sharing = (
        Teacher(student, dense, torch.float32),
        Teacher(student, None, torch.float32),
    )
    own, shared = separate.state_dict()
    own = {name: tensor.clone() for name, tensor in own.items()}
    assert not shared
    expected = logits(separate)
    separate.load_state_dict(*sharing.state_dict())
    assert separate.state_dict()[1] == [EMBEDDINGS]
    assert torch.equal(logits(separate), logits(sharing))
    sharing.load_state_dict(own, shared)
    assert torch.equal(logits(sharing), expected)
    assert not torch.equal(student.get_parameter(EMBEDDINGS), own[EMBEDDINGS])
    # shared once, trained now
    student.get_parameter(EMBEDDINGS).requires_grad_(True)
    sharing.load_state_dict(*separate.state_dict())
    assert sharing.state_dict()[1] == []


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"labels": 2}, r"has 'classifier.weight' of shape \(2, 8\), the model of shape \(3, 8\)"),
        ({"num_hidden_layers": 1}, r"has no 'bert.encoder.layer.1.\S+', which the model has"),
        ({"num_hidden_layers": 3}, r"has 'bert.encoder.layer.2.\S+', which the model has not"),
    ],
)
def test_a_state_of_another_model_is_refused_and_changes_nothing(
    other: dict[str, Any], difference: str
) -> None:
    teacher = Teacher(bert())
    before = values(teacher.model)
    message = rf"^the teacher's state {difference}: it is of another model$"
    with pytest.raises(CheckpointError, match=message):
        teacher.load_state_dict(*Teacher(bert(seed=1, **other)).state_dict())
    with pytest.raises(CheckpointError, match="has 'x', which the model has not"):
        teacher.load_state_dict(teacher.state_dict()[0], ["x"])
    torch.testing.assert_close(values(teacher.model), before, rtol=0, atol=0)
