"""The teacher of a sharded model is the teacher of the same model on one device, in parts."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from pins.distributed.sharding import is_sharded, local, whole
from pins.errors import CheckpointError, ModelError
from pins.models.self_distillation import SelfRegularizer
from pins.models.sharded_teacher import ShardedTeacher, teacher_of
from tests.pins.ranks import mesh_of, on_ranks, raises
from tests.pins.sharded import (
    assert_equal,
    batches,
    sharded_classifier,
    whole_gradients,
    whole_weights,
)
from tests.pins.trainer.trainers import classifier

SIZES = (1, 2, 3)


def stepped(model: nn.Module, factor: float = 8.0) -> None:
    """The weights move."""
    with torch.no_grad():
        for parameter in model.parameters():
            local(parameter).mul_(factor)


def gradients(
    model: nn.Module, regularizer: SelfRegularizer, number: int
) -> tuple[float, dict[str, Tensor]]:
    batch = batches(3)[number]
    model.train()
    loss = regularizer.loss(model(**batch), batch)
    torch.autograd.backward(loss)
    found = loss.item(), whole_gradients(model)
    model.zero_grad()
    return found


def assert_alike(
    first: tuple[float, dict[str, Tensor]], second: tuple[float, dict[str, Tensor]], size: int
) -> None:
    assert first[0] == second[0]
    if size != 3:  # a third of three equal numbers is rounded
        assert_equal(first[1], second[1])
    for name, gradient in first[1].items():
        torch.testing.assert_close(gradient, second[1][name], rtol=1e-5, atol=1e-7)


def losses_are_those_of_one_device(_rank: int, size: int, _folder: Path) -> None:
    """Loss and gradient, with a teacher of before, then one of now; the model keeps its own."""
    for layers in (True, False):
        model, alone = sharded_classifier(size, layers=layers), classifier()
        sharded, one = (SelfRegularizer(each, dtype=torch.float32) for each in (model, alone))
        stepped(model)
        stepped(alone)
        before = whole_weights(model)
        expected = gradients(alone, one, 0)
        assert_alike(gradients(model, sharded, 0), expected, size)
        assert_equal(whole_weights(model), before)
        assert model.training
        assert sharded.update(1.0, 0.5)
        assert one.update(1.0, 0.5)
        assert_alike(gradients(model, sharded, 1), gradients(alone, one, 1), size)
        again = gradients(model, sharded, 0)
        assert again[0] != expected[0], "the control: another teacher, another loss"


def parameters_left_out_are_swapped_too(_rank: int, size: int, _folder: Path) -> None:
    """What `fully_shard` was told to ignore is whole on each rank, and trained as well."""
    alone = classifier()
    made = classifier()
    ignored = set(made.classifier.parameters())
    fully_shard(made, mesh=mesh_of(size), ignored_params=ignored)
    sharded, one = (SelfRegularizer(each, dtype=torch.float32) for each in (made, alone))
    stepped(made)
    stepped(alone)
    assert not is_sharded(made.get_parameter("classifier.weight"))
    assert_alike(gradients(made, sharded, 0), gradients(alone, one, 0), size)


def first_teacher_may_be_whole(_rank: int, size: int, _folder: Path) -> None:
    """A dense model that every rank has: of it, each keeps its part."""
    source = classifier()
    stepped(source, 2.0)
    expected = {name: p.detach().clone() for name, p in source.named_parameters()}
    model, alone = sharded_classifier(size), classifier()
    sharded = SelfRegularizer(model, source, dtype=torch.float32)
    one = SelfRegularizer(alone, source, dtype=torch.float32)
    stepped(source)  # nothing of it is kept
    own, _ = sharded.state_dict()
    held = {name: whole(own[name]) for name in expected}
    assert_equal(held, expected)
    assert sum(local(own[name]).numel() for name in expected) <= sum(
        -(-p.shape[0] // size) * p[0].numel() for p in expected.values()
    ), "no rank holds more than its part"
    assert_alike(gradients(model, sharded, 0), gradients(alone, one, 0), size)
    small = classifier(num_hidden_layers=1)
    raises(ModelError, "the teacher has no", lambda: SelfRegularizer(model, small))
    raises(ModelError, "the teacher is sharded", lambda: teacher_of(alone, model))


def frozen_weights_are_shared(_rank: int, size: int, _folder: Path) -> None:
    """What is not trained is not held twice, until it is."""
    model = sharded_classifier(size)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    weight = dict(model.named_parameters())[name]
    weight.requires_grad_(False)
    regularizer = SelfRegularizer(model, dtype=torch.float32)
    own, scalars = regularizer.state_dict()
    assert name not in own
    assert scalars["shared"] == [name]
    weight.requires_grad_(True)
    regularizer.loss(model(**batches(1)[0]), batches(1)[0])
    own, scalars = regularizer.state_dict()
    assert torch.equal(whole(own[name]), whole(weight))
    assert scalars["shared"] == []


def states_come_back(_rank: int, size: int, _folder: Path) -> None:
    """Bit for bit, in the dtypes that they had; whole, or in parts."""
    model = sharded_classifier(size)
    first = SelfRegularizer(model, dtype=torch.bfloat16)
    stepped(model)
    tensors, scalars = first.state_dict()
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16, torch.float32}
    for given in (tensors, {name: whole(t) for name, t in tensors.items()}):
        second = SelfRegularizer(model, dtype=torch.float32)
        second.load_state_dict(given, scalars)
        again, _ = second.state_dict()
        assert_equal(
            {name: whole(t) for name, t in again.items()},
            {name: whole(t) for name, t in tensors.items()},
        )
    some = dict(list(tensors.items())[1:])
    raises(CheckpointError, "it is of another model", lambda: first.load_state_dict(some, scalars))


def there_is_no_second_network(_rank: int, size: int, _folder: Path) -> None:
    model = sharded_classifier(size)
    regularizer = SelfRegularizer(model)
    raises(ModelError, "no network of its own", lambda: regularizer.teacher)
    assert isinstance(teacher_of(model), ShardedTeacher)
    assert not isinstance(teacher_of(classifier()), ShardedTeacher)
    raises(AssertionError, "FSDP does not support deepcopy", lambda: copy.deepcopy(model))


CHECKS = (
    losses_are_those_of_one_device,
    parameters_left_out_are_swapped_too,
    first_teacher_may_be_whole,
    frozen_weights_are_shared,
    states_come_back,
    there_is_no_second_network,
)


found, test_on_ranks = on_ranks(CHECKS, SIZES)
