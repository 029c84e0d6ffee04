"""A causal model of which one block is in memory at a time; the rest stays on the disk.

Nearly all weights of a decoder are in its blocks, which are passed one after the other. What is
outside of them (embeddings, last norm, output matrix) is in memory all the time.

    decoder = Decoder.open("model")
    states = [decoder.first(window) for window in windows]
    for number in range(len(decoder)):
        with decoder.loaded(number) as block:
            states = [decoder.through(block, number, state) for state in states]
    losses = [decoder.losses(state) for state in states]
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pins.errors import ModelError, PinsError
from pins.models.auto_classes import quiet, reason, the_library
from pins.models.experts import separate
from pins.models.parameters import is_linear
from pins.models.pretrained import load_outline
from pins.models.stored_names import stored_names
from pins.models.weight_files import weight_files
from pins.utils.io import tensor_names
from pins.utils.text_files import shown

CPU = torch.device("cpu")


@dataclass(frozen=True)
class State:
    """A window on its way through the blocks.

    Attributes:
        tokens: (1, length) int64.
        hidden: what the next block reads, (1, length, width).
        inputs: the other arguments of each block, in order.
    """

    tokens: Tensor
    hidden: Tensor
    inputs: tuple[tuple[tuple[Any, ...], Mapping[str, Any]], ...] = field(repr=False)


class Decoder:
    """A causal model without the weights of its blocks.

    Attributes:
        model: the network, in float32.
        tokenizer: of its folder.
        folder: with its files.
        names: of the blocks, in order.
        device: of what is in memory.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, folder: Path, device: torch.device
    ) -> None:
        self.model, self.tokenizer, self.folder, self.device = model, tokenizer, folder, device
        files = {name: file for file in weight_files(folder) for name in tensor_names(file)}
        own = stored_names(model, files)  # without tensors that are tied to others
        separate(model)
        self._list = block_list(model)
        self.names = [f"{self._list}.{i}" for i in range(len(self._modules))]
        self._stored, self._files = own, files
        self._dtypes: dict[str, torch.dtype] = {}
        inside = tuple(f"{name}." for name in self.names)
        self._load(model, "", [n for n in own if not n.startswith(inside)])
        model.tie_weights()  # type: ignore[operator]
        missing = [
            name
            for name, tensor in model.state_dict().items()
            if (name not in own if name.startswith(inside) else tensor.is_meta)
        ]
        if missing:
            raise ModelError(
                f"{folder} holds no {shown(missing[0])}: its tensors are not those that "
                f"{type(model).__name__} is loaded from one by one, as where one has all experts"
            )
        for module in model.modules():  # buffers that are computed, not stored
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))
        model.eval().requires_grad_(False)
        self._require_causal()

    @classmethod
    def open(cls, model: str, device: torch.device = CPU) -> "Decoder":
        """The model of a folder, or an id on the hub, without its blocks.

        Raises:
            ModelError: there is no such model, it is no causal one, it has no list of blocks, or
                its files have other tensors than these.
        """
        return cls(*load_outline(model), device)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def _modules(self) -> nn.ModuleList:
        modules = self.model.get_submodule(self._list)
        assert isinstance(modules, nn.ModuleList)
        return modules

    @contextmanager
    def loaded(self, number: int) -> Iterator[nn.Module]:
        """Inside, the weights of a block are in memory; what the caller changes is lost after."""
        block = self._modules[number]
        self._load(block, f"{self.names[number]}.", [*block.state_dict()])
        try:
            yield block
        finally:
            block.to("meta")

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """Inside, the weights of all blocks are in memory; the model."""
        with ExitStack() as held:
            for number in range(len(self)):
                held.enter_context(self.loaded(number))
            yield self.model

    @property
    def nbytes(self) -> int:
        """The bytes of all parameters in float32."""
        return 4 * sum(parameter.numel() for parameter in self.model.parameters())

    def stored_name(self, name: str) -> str:
        """The name that a tensor of the model has in the files."""
        return self._stored[name]

    def dtype(self, name: str) -> torch.dtype:
        """The dtype that a tensor which was loaded has in the files."""
        return self._dtypes[name]

    def as_stored(self, name: str, tensor: Tensor, *, changed: bool) -> Tensor:
        """A tensor of a block in the dtype of the files, which float32 holds but for float64."""
        if self.dtype(name) == torch.float64 and not changed:
            return self._read(self._stored[name])
        return tensor.to(CPU, self.dtype(name))

    def rest(self) -> dict[str, Tensor]:
        """The tensors outside of the blocks as the files have them, by their names there.

        Among them is what the model does not read, as old buffers.
        """
        blocks = tuple(f"{name}." for name in self.names)
        inside = {stored for name, stored in self._stored.items() if name.startswith(blocks)}
        return {name: self._read(name) for name in self._files if name not in inside}

    @torch.no_grad()
    def first(self, tokens: Tensor) -> State:
        """What the first block reads of a window, and the other arguments of all blocks."""
        seen: list[Any] = []

        def note(hidden: Tensor, arguments: Any) -> Tensor:
            seen.append((hidden, arguments))
            if len(seen) == len(self):
                raise _AllSeenError  # what follows is the output matrix, which is large
            return hidden

        with suppress(_AllSeenError):
            self._run(tokens, note)
        return State(tokens, seen[0][0], tuple(arguments for _, arguments in seen))

    @torch.no_grad()
    def through(self, block: nn.Module, number: int, state: State) -> State:
        """The state after a block."""
        arguments, named = state.inputs[number]
        found = block(state.hidden, *arguments, **named)
        return replace(state, hidden=found[0] if isinstance(found, tuple) else found)

    @torch.no_grad()
    def losses(self, state: State) -> Tensor:
        """−log p of each token but the first, (length − 1,), after the last block."""
        logits = self._run(state.tokens, lambda _hidden, _arguments: state.hidden).logits
        return nn.functional.cross_entropy(
            logits[0, :-1].float(), state.tokens[0, 1:], reduction="none"
        )

    def _require_causal(self) -> None:
        """Check on three tokens that blocks can be passed one by one, and do not look ahead.

        Raises:
            ModelError: a call fails, or the first block's output depends on a later input.
        """
        kind = type(self.model).__name__
        try:
            state = self.first(torch.tensor([[1, 2, 1]], device=self.device))
            other = replace(state, hidden=state.hidden.clone())
            other.hidden[:, -1] = 1 - other.hidden[:, -1]
            with self.loaded(0) as block:
                states = [self.through(block, 0, each) for each in (state, other)]
            self.losses(states[0])
        except PinsError:
            raise
        except Exception as error:  # whatever a model of another kind leads to
            raise ModelError(
                f"the blocks of {kind} cannot be passed one after the other ({reason(error)}): "
                "give a causal language model"
            ) from error
        one, two = (each.hidden[:, :-1] for each in states)
        if not torch.allclose(one, two, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise ModelError(
                f"{kind} sees the tokens that it predicts, so its perplexity would mean nothing: "
                "give a causal language model"
            )

    def _run(self, tokens: Tensor, step: Any) -> Any:
        """The model with a function in the place of each block."""
        blocks = self._modules
        real = [*blocks]
        try:
            for i, block in enumerate(real):
                blocks[i] = _Stand(block, step)
            with quiet(the_library()):  # it warns of tokens that pad other texts
                return self.model(input_ids=tokens, use_cache=False)
        finally:
            for i, block in enumerate(real):
                blocks[i] = block

    def _load(self, module: nn.Module, prefix: str, names: list[str]) -> None:
        """Read the tensors of a module from the files, in float32."""
        tensors = {}
        for name in names:
            tensor = self._read(self._stored[prefix + name])
            self._dtypes[prefix + name] = tensor.dtype
            tensor = tensor.to(self.device)
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
        try:
            module.load_state_dict(tensors, strict=False, assign=True)
        except RuntimeError as error:  # of shapes, all in one message
            raise ModelError(f"{self.folder} does not fit its config.json: {error}") from error
        module.requires_grad_(False)

    def _read(self, stored: str) -> Tensor:
        with safe_open(self._files[stored], framework="pt") as file:
            tensor: Tensor = file.get_tensor(stored)
            return tensor


class _AllSeenError(Exception):
    """The arguments of all blocks are known."""


class _Stand(nn.Module):
    """A function in the place of a block, of which models read attributes."""

    def __init__(self, block: nn.Module, step: Any) -> None:
        super().__init__()
        self.block, self.step = [block], step  # in a list: no submodule

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.block[0], name)

    def forward(self, hidden: Tensor, *arguments: Any, **named: Any) -> Tensor:
        found: Tensor = self.step(hidden, (arguments, named))
        return found


def block_list(model: nn.Module) -> str:
    """The name of the list of a decoder's blocks: the outermost one with linear layers.

    Raises:
        ModelError: there is none, or there are several.
    """
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and any(map(is_linear, module.modules()))
    ]
    outermost = [n for n in found if not any(n.startswith(f"{other}.") for other in found)]
    if len(outermost) != 1:
        raise ModelError(
            f"{type(model).__name__} has {len(outermost)} lists of blocks: one-shot pruning passes "
            "the blocks of a decoder, one after the other"
        )
    return str(outermost[0])
