"""The teacher of a sharded model: each rank holds its parts of the teacher's weights.

θ' has no network of its own, because FSDP2 modules cannot be copied. To compute with θ', the local
parts of the model and of the teacher are swapped: the model gathers θ' as it gathers θ, without
dropout and without gradients, and gets θ back afterwards. An earlier forward pass of the model
keeps its backward pass, which gathers θ again.
"""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pins.distributed.sharding import is_sharded, local, reshard
from pins.errors import ModelError
from pins.models.inference import evaluation_mode
from pins.models.parameters import unwrapped
from pins.models.state_dicts import model_tensors
from pins.models.teacher import Teacher, frozen


class ShardedTeacher(Teacher):
    """θ' = θ at the last `copy_student`; each rank holds its parts. All methods are collectives.

    Attributes:
        model: the student, whose weights are the teacher's only inside a call.
    """

    def _copy(self, tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> nn.Module:
        """Hold parts of all that is trained, and of all that another model provides."""
        for name, tensor in tensors.items():
            if frozen(tensor) and values[name] is tensor:
                self._shared[name] = tensor
            else:
                self._own[name] = self._stored(values[name], tensor)
        return self._student

    def _hold(self, kind: dict[str, Tensor], name: str, value: Tensor) -> None:
        self._own.pop(name, None)
        self._shared.pop(name, None)
        kind[name] = value

    @contextlib.contextmanager
    def _weights(self) -> Iterator[None]:
        """Inside the block the model has the teacher's weights, and no dropout."""
        reshard(self.model)
        tensors = model_tensors(self.model)
        kept: dict[str, Tensor] = {}
        try:
            for name, own in self._own.items():
                tensor = tensors[name]
                if is_sharded(tensor):  # FSDP2 gathers from this memory
                    kept[name] = local(tensor).clone()
                    local(tensor).copy_(local(own))
                else:  # not in place: a forward pass may have saved it for its backward pass
                    kept[name] = tensor.data
                    tensor.data = own.detach().to(tensor.dtype)
            with evaluation_mode(self.model):
                yield
        finally:
            reshard(self.model)
            for name, value in kept.items():
                if is_sharded(tensors[name]):
                    local(tensors[name]).copy_(value)
                else:
                    tensors[name].data = value


def teacher_of(
    student: nn.Module, source: nn.Module | None = None, dtype: torch.dtype | None = None
) -> Teacher:
    """The teacher of a model: a `ShardedTeacher` if the model is sharded, else a `Teacher`.

    Args:
        student: the model to be taught, on its device.
        source: as in `Teacher`; for a sharded model, whole on each rank or sharded alike.
        dtype: as in `Teacher`.

    Raises:
        ModelError: the source is another network, or is sharded while the student is not.
        SettingError: the dtype is invalid.
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
