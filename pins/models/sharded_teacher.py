"""The teacher of a sharded model: each rank keeps its parts of the teacher's weights, no more.

θ' has no network of its own, which FSDP2 could not copy. To ask it, the model's parts and the
teacher's change places: the model itself computes with θ', gathering it as it gathers θ, without
dropout and without gradients, and has its own weights back afterwards. What a forward of the model
before it left for its backward is none the worse: the backward gathers θ anew.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pins.distributed.sharding import is_sharded, like_sharding, local, part, reshard
from pins.errors import ModelError
from pins.models.batches import Batch
from pins.models.heads import Head
from pins.models.inference import evaluation_mode
from pins.models.parameters import unwrapped
from pins.models.teacher import Teacher, frozen, named_tensors, require_fitting


class ShardedTeacher(Teacher):
    """θ' = θ as it was at the last `copy_student`; each rank holds its parts.

    Attributes:
        model: the model taught, whose weights are the teacher's only inside a call.
    """

    def _copy(self, tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> nn.Module:
        """Parts of our own of all that is trained, and of all that another model brings."""
        for name, tensor in tensors.items():
            if frozen(tensor) and values[name] is tensor:
                self._shared[name] = tensor
            else:
                self._own[name] = self._stored(values[name], tensor)
        return self._student

    def _stored(self, value: Tensor, like: Tensor) -> Tensor:
        """The part of this rank, in the dtype that the teacher has this tensor in."""
        if not is_sharded(like):
            return super()._stored(value, like)
        narrow = like.dtype == torch.float32 and like.dim() > 1
        return _own(value, like, self._dtype if narrow else like.dtype)

    def copy_student(self) -> None:
        """θ' ← θ, in place."""
        reshard(self._student)
        super().copy_student()

    def load_state_dict(self, own: Mapping[str, Tensor], shared: Collection[str]) -> None:
        """Be the teacher that `state_dict` was taken of, bit for bit, each tensor in its dtype.

        Args:
            own: tensors that each rank has whole, or that are cut as the student's.
            shared: names of those that are the student's, which is to be restored first.

        Raises:
            CheckpointError: it is the state for another model; nothing has changed then.
        """
        reshard(self._student)
        tensors = named_tensors(self._student)
        require_fitting(own, shared, tensors)
        restored = {name: _own(own[name], tensors[name], own[name].dtype) for name in own}
        thawed = {
            name: self._stored(tensor, tensor)
            for name, tensor in tensors.items()
            if name not in own and not frozen(tensor)
        }
        self._own = {**restored, **thawed}
        self._shared = {name: t for name, t in tensors.items() if name not in self._own}

    @torch.no_grad()
    def __call__(self, head: Head, batch: Batch) -> Any:
        """The output for a batch; draws no random number. All ranks call it together."""
        self._own_what_is_thawed()
        with self._in_place(), evaluation_mode(self.model), self._precision():
            return self.model(**head.inputs(self.model, batch))

    def _own_what_is_thawed(self) -> None:
        for name, tensor in list(self._shared.items()):
            if tensor.requires_grad:
                self._own[name] = self._stored(tensor, tensor)
                del self._shared[name]

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """The model's weights are the teacher's inside the block."""
        reshard(self.model)
        tensors = named_tensors(self.model)
        kept: dict[str, Tensor] = {}
        try:
            for name, own in self._own.items():
                tensor = tensors[name]
                if is_sharded(tensor):  # FSDP2 gathers from this very memory
                    kept[name] = local(tensor).clone()
                    local(tensor).copy_(local(own))
                else:  # what a forward saved for its backward must not be written over
                    kept[name] = tensor.data
                    tensor.data = own.detach().to(tensor.dtype)
            yield
        finally:
            reshard(self.model)
            for name, value in kept.items():
                if is_sharded(tensors[name]):
                    local(tensors[name]).copy_(value)
                else:
                    tensors[name].data = value


def _own(value: Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of what this rank holds of a value, cut as `like`."""
    held = part(value.detach(), like).to(local(like).device, dtype, copy=True)
    return like_sharding(held, like)


def teacher_of(
    student: nn.Module, source: nn.Module | None = None, dtype: torch.dtype | None = None
) -> Teacher:
    """The teacher of a model: a network of its own, or parts where the model is sharded.

    Args:
        student: the model to be taught, where it is to be trained.
        source: as of `Teacher`; of a sharded model, one that each rank has whole, or sharded alike.
        dtype: as of `Teacher`.

    Raises:
        ModelError: the source is another network, or is sharded and the student is not.
        SettingError: the dtype is none of these.
    """
    reshard(unwrapped(student))
    if any(is_sharded(parameter) for parameter in student.parameters()):
        if source is not None:
            reshard(unwrapped(source))
        return ShardedTeacher(student, source, dtype)
    if source is not None and any(is_sharded(parameter) for parameter in source.parameters()):
        raise ModelError(
            "the teacher is sharded and the model is not: give a teacher that each rank has whole"
        )
    return Teacher(student, source, dtype)
