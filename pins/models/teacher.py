"""Teacher: a second, frozen set of a model's weights that takes little memory."""

import copy
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from pins.distributed.sharding import like_sharding, local, part, reshard
from pins.errors import CheckpointError, ModelError, SettingError
from pins.models.batches import Batch
from pins.models.heads import Head
from pins.models.inference import device_of
from pins.models.parameters import unwrapped
from pins.models.state_dicts import model_tensors
from pins.utils.lookup import choose_one

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
BFLOAT16_CPUS = ("avx512_bf16", "amx_bf16")  # without them it is slower than float32


class Teacher:
    """θ' = θ at the last `copy_student`; the same network, without dropout.

    Frozen parameters and non-persistent buffers (position numbers, for example) are shared with the
    student. The others are copies; float32 matrices are stored in `dtype`. Vectors (biases, norms),
    a thousandth of a model, keep their dtype, because CPUs normalise float32 with float32 weights
    alone. Tied tensors stay tied.

    Attributes:
        model: the network with the teacher's weights, in evaluation mode, without gradients.
    """

    def __init__(
        self, student: nn.Module, source: nn.Module | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Copy the weights of `source`.

        Args:
            student: the model to be taught, on its device.
            source: the model with the first weights, default: the student. No reference is kept.
            dtype: one of `DTYPES`; default: `fast_dtype` of the student's device.

        Raises:
            ModelError: the source is another network, or the student cannot be copied.
            SettingError: the dtype is not in `DTYPES`.
        """
        if dtype is not None and dtype not in DTYPES:
            raise SettingError(
                f"the teacher's dtype is {dtype}: {choose_one(dtype, map(str, DTYPES))}"
            )
        self._student = unwrapped(student)
        self._dtype = dtype or fast_dtype(device_of(self._student))
        tensors = model_tensors(self._student)
        values = tensors if source is None else model_tensors(unwrapped(source))
        if difference := _difference(values, tensors):
            raise ModelError(
                f"the teacher {difference}: give a fine-tuned copy of the model, with the same head"
            )
        self._own: dict[str, Tensor] = {}
        self._shared: dict[str, Tensor] = {}
        self.model = self._copy(tensors, values)

    def _copy(self, tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> nn.Module:
        """Copy the student's modules around the teacher's own tensors and the shared ones."""
        memo: dict[int, Any] = {}  # deepcopy() does not copy what is in it
        for name, tensor in tensors.items():
            value = values[name]
            if frozen(tensor) and (value is tensor or torch.equal(value.to(tensor), tensor)):
                self._shared[name] = nn.Parameter(tensor.detach(), requires_grad=False)
                memo[id(tensor)] = self._shared[name]
            else:
                stored = self._stored(value, tensor)
                parameter = isinstance(tensor, nn.Parameter)
                self._own[name] = nn.Parameter(stored, requires_grad=False) if parameter else stored
                memo[id(tensor)] = self._own[name]
        memo |= {id(buffer): buffer for buffer in self._student.buffers() if id(buffer) not in memo}
        try:
            model = copy.deepcopy(self._student, memo)
        except (RuntimeError, TypeError) as error:
            raise ModelError(
                f"{type(self._student).__name__} cannot be copied for a teacher: {error}"
            ) from error
        for module in model.modules():
            if isinstance(vars(module).get("forward"), FunctionType):
                raise ModelError(
                    f"{type(module).__name__} cannot be copied for a teacher: its forward was "
                    "replaced by a function, which would run the student; replace it afterwards"
                )
            config: Any = getattr(module, "config", None)
            if getattr(config, "use_cache", False):
                config.use_cache = False  # the teacher does not generate
        return model.eval()

    def _stored(self, value: Tensor, like: Tensor) -> Tensor:
        """A copy of `value` in the teacher's dtype, with the device and the sharding of `like`."""
        narrow = like.dtype == torch.float32 and like.dim() > 1 and isinstance(like, nn.Parameter)
        return _copied(value, like, self._dtype if narrow else like.dtype)

    @torch.no_grad()
    def __call__(self, head: Head, batch: Batch) -> Any:
        """The output for a batch; draws no random number."""
        self._own_thawed()
        with self._weights(), self._precision():
            return self.model(**head.inputs(self.model, batch))

    def _own_thawed(self) -> None:
        """Copy shared parameters that are no longer frozen: they are about to be trained."""
        if self._shared:
            parameters = dict(self._student.named_parameters())
            for name in [name for name in self._shared if parameters[name].requires_grad]:
                self._hold(self._own, name, self._stored(parameters[name], parameters[name]))

    def _hold(self, kind: dict[str, Tensor], name: str, value: Tensor) -> None:
        """Let the tensor of a name be `value`, in `kind`: the own tensors or the shared ones."""
        tensor = self._own.pop(name) if name in self._own else self._shared.pop(name)
        tensor.data = value
        kind[name] = tensor

    def _weights(self) -> AbstractContextManager[None]:
        """Inside the block `model` has the teacher's weights: here it always has them."""
        return nullcontext()

    def _precision(self) -> AbstractContextManager[None]:
        """Autocast to the 16-bit dtype of the teacher's matrices, if the student has none of it."""
        own = {tensor.dtype for tensor in self._own.values()}
        trained = {parameter.dtype for parameter in self._student.parameters()}
        for dtype in (torch.bfloat16, torch.float16):
            if dtype in own - trained:
                return torch.autocast(device_of(self.model).type, dtype=dtype)
        return nullcontext()

    @torch.no_grad()
    def copy_student(self) -> None:
        """θ' ← θ, in place."""
        reshard(self._student)
        tensors = model_tensors(self._student)
        for name, tensor in self._own.items():
            tensor.copy_(tensors[name])

    def state_dict(self) -> tuple[dict[str, Tensor], list[str]]:
        """The teacher's own tensors by name, not copied, and the names of the shared ones."""
        return {name: tensor.detach() for name, tensor in self._own.items()}, list(self._shared)

    @torch.no_grad()
    def load_state_dict(self, own: Mapping[str, Tensor], shared: Collection[str]) -> None:
        """Restore the teacher of `state_dict`, bit for bit, each tensor in its dtype.

        Args:
            own: whole tensors, or tensors with the sharding of the student's.
            shared: names of tensors that are the student's; restore the student first.

        Raises:
            CheckpointError: it is the state for another model; nothing has changed then.
        """
        reshard(self._student)
        tensors = model_tensors(self._student)
        nothing = torch.empty(0)
        found = {**{name: tensors.get(name, nothing) for name in shared}, **own}
        if difference := _difference(found, tensors):
            raise CheckpointError(f"the teacher's state {difference}: it is of another model")
        for name, tensor in tensors.items():
            if name in own:
                self._hold(self._own, name, _copied(own[name], tensor, own[name].dtype))
            elif frozen(tensor):
                self._hold(self._shared, name, tensor.detach())
            else:
                self._hold(self._own, name, self._stored(tensor, tensor))


def _copied(value: Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of `value` in a dtype, with the device and the sharding of `like`."""
    held = part(value.detach(), like).to(local(like).device, dtype, copy=True)
    return like_sharding(held, like)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the device computes faster with it than with float32, else float32.

    Measured on a CPU with AVX512-BF16 (BERT of 6 layers of 384, 16 rows of 128, 1 thread): 0.14 s
    per batch, 0.44 s in float32.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # older versions of torch have no such function
        has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = device.type == "cpu" and any(has.get(name) for name in BFLOAT16_CPUS)
    return torch.bfloat16 if fast else torch.float32


def frozen(tensor: Tensor) -> bool:
    """Whether a tensor is a parameter that is not trained."""
    return isinstance(tensor, nn.Parameter) and not tensor.requires_grad


def _difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """The first difference, in words; None if names and shapes are equal."""
    for name, tensor in wanted.items():
        if name not in found:
            return f"has no {name!r}, which the model has"
        if found[name].shape != tensor.shape:
            return (
                f"has {name!r} of shape {tuple(found[name].shape)}, the model of shape "
                f"{tuple(tensor.shape)}"
            )
    strange = next((name for name in found if name not in wanted), None)
    return None if strange is None else f"has {strange!r}, which the model has not"
