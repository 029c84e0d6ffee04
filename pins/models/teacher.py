"""Teacher: a second set of a model's weights, frozen, that takes as little memory as it can."""

import copy
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from pins.errors import CheckpointError, ModelError, SettingError
from pins.models.batches import Batch
from pins.models.heads import Head
from pins.models.inference import device_of
from pins.models.parameters import unwrapped

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
BFLOAT16_CPUS = ("avx512_bf16", "amx_bf16")  # instructions, without which it is slower than float32


class Teacher:
    """θ' = θ as it was at the last `copy_student`; the same network, without dropout.

    What the student does not train is shared with it: frozen parameters, and the buffers that no
    state dict holds (position numbers and the like). The others have memory of their own; matrices
    of float32 take `dtype`, while vectors (biases, norms), a thousandth of a model, stay as they
    are: CPUs normalise float32 with float32 weights alone. Tied tensors stay tied.

    Attributes:
        model: the network with the teacher's weights, in evaluation mode, without gradients.
    """

    def __init__(
        self, student: nn.Module, source: nn.Module | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Copy the weights of `source`.

        Args:
            student: the model to be taught, where it is to be trained.
            source: the model of the first weights; the student by default. Nothing of it is kept.
            dtype: of `DTYPES`; default `fast_dtype` of the student's device.

        Raises:
            ModelError: the source is another network, or the student is none that can be copied.
            SettingError: the dtype is none of these.
        """
        if dtype is not None and dtype not in DTYPES:
            raise SettingError(
                f"the teacher's dtype is {dtype}: choose one of {', '.join(map(str, DTYPES))}"
            )
        self._student = unwrapped(student)
        self._dtype = dtype or fast_dtype(device_of(self._student))
        tensors = named_tensors(self._student)
        values = tensors if source is None else named_tensors(unwrapped(source))
        if difference := _difference(values, tensors):
            raise ModelError(
                f"the teacher {difference}: give a fine-tuned copy of the model, with the same head"
            )
        self._own: dict[str, Tensor] = {}
        self._shared: dict[str, Tensor] = {}
        self.model = self._copy(tensors, values)

    def _copy(self, tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> nn.Module:
        """The student's structure around tensors of our own, or the same ones."""
        memo: dict[int, Any] = {}  # what deepcopy() takes for copied already
        for name, tensor in tensors.items():
            value = values[name]
            if frozen(tensor) and (value is tensor or torch.equal(value.to(tensor), tensor)):
                self._shared[name] = nn.Parameter(tensor.detach(), requires_grad=False)
                memo[id(tensor)] = self._shared[name]
            else:
                self._own[name] = self._stored(value, tensor)
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
                config.use_cache = False  # nobody generates with the teacher
        return model.eval()

    def _stored(self, value: Tensor, like: Tensor) -> Tensor:
        """A copy in the dtype and on the device that the teacher has this tensor in."""
        narrow = like.dtype == torch.float32 and like.dim() > 1 and isinstance(like, nn.Parameter)
        dtype = self._dtype if narrow else like.dtype
        stored = value.detach().to(like.device, dtype, copy=True)
        return (
            nn.Parameter(stored, requires_grad=False) if isinstance(like, nn.Parameter) else stored
        )

    @torch.no_grad()
    def __call__(self, head: Head, batch: Batch) -> Any:
        """The output for a batch; draws no random number."""
        self._own_what_is_thawed()
        with self._precision():
            return self.model(**head.inputs(self.model, batch))

    def _own_what_is_thawed(self) -> None:
        """What was frozen and is no more is about to be trained."""
        if self._shared:
            parameters = dict(self._student.named_parameters())
            for name in [name for name in self._shared if parameters[name].requires_grad]:
                self._own[name] = self._shared.pop(name)
                self._own[name].data = self._stored(parameters[name], parameters[name])

    def _precision(self) -> AbstractContextManager[None]:
        """Matrices of 16 bits want matrix products of 16 bits; else it is as the caller has it."""
        own = {tensor.dtype for tensor in self._own.values()}
        trained = {parameter.dtype for parameter in self._student.parameters()}
        for dtype in (torch.bfloat16, torch.float16):
            if dtype in own - trained:
                return torch.autocast(device_of(self.model).type, dtype=dtype)
        return nullcontext()

    @torch.no_grad()
    def copy_student(self) -> None:
        """θ' ← θ, in place."""
        tensors = named_tensors(self._student)
        for name, tensor in self._own.items():
            tensor.copy_(tensors[name])

    def state_dict(self) -> tuple[dict[str, Tensor], list[str]]:
        """Tensors of the teacher's own by name, not copied; names of those shared."""
        return {name: tensor.detach() for name, tensor in self._own.items()}, list(self._shared)

    @torch.no_grad()
    def load_state_dict(self, own: Mapping[str, Tensor], shared: Collection[str]) -> None:
        """Be the teacher that `state_dict` was taken of, bit for bit, each tensor in its dtype.

        What it shared is the student's, which is to be restored first.

        Raises:
            CheckpointError: it is the state for another model; nothing has changed then.
        """
        tensors = named_tensors(self._student)
        require_fitting(own, shared, tensors)
        for name, tensor in tensors.items():
            mine = self._own.pop(name) if name in self._own else self._shared.pop(name)
            if name not in own and frozen(tensor):
                mine.data = tensor.detach()
                self._shared[name] = mine
            else:
                value = own[name].to(tensor.device, copy=True) if name in own else None
                mine.data = self._stored(tensor, tensor) if value is None else value
                self._own[name] = mine


def require_fitting(
    own: Mapping[str, Tensor], shared: Collection[str], tensors: Mapping[str, Tensor]
) -> None:
    """A teacher's state is that of one for a model of these tensors.

    Raises:
        CheckpointError: it is not.
    """
    nothing = torch.empty(0)
    found = {**{name: tensors.get(name, nothing) for name in shared}, **own}
    if difference := _difference(found, tensors):
        raise CheckpointError(f"the teacher's state {difference}: it is of another model")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes with it faster than with float32, else float32.

    Measured on a CPU with AVX512-BF16 (BERT of 6 layers of 384, 16 rows of 128, 1 thread): 0.14 s
    a batch for 0.44 s in float32.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # older versions of torch cannot tell
        has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = device.type == "cpu" and any(has.get(name) for name in BFLOAT16_CPUS)
    return torch.bfloat16 if fast else torch.float32


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, and the buffers that a state dict holds: each tensor once."""
    stored = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in stored}
    return {**dict(model.named_parameters()), **buffers}


def frozen(tensor: Tensor) -> bool:
    """Whether it is a parameter that is not trained."""
    return isinstance(tensor, nn.Parameter) and not tensor.requires_grad


def _difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """What is different first, in words; None where names and shapes are the same."""
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
