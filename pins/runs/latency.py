"""The duration of a forward pass, pruned and dense, measured on this device.

The dense network is the same network with non-zero numbers in place of the pruned weights. The
networks take turns, so other load of the machine affects all alike; `torch.utils.benchmark` times
one statement after the other. A difference counts only if it exceeds the spread of repeated runs.
The weights themselves are never written to.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pins.errors import SettingError, first_line
from pins.masks import require_same_tensors
from pins.models.batches import Batch
from pins.models.inference import device_of, evaluation_mode, to_device
from pins.models.parameters import is_linear

MOST_NOISE = 0.5  # of times that are compared
LEAST_RUNS = 5  # quartiles of fewer runs mean little
ZEROS = "zeros in dense matrices are multiplied like any number"
_FILLING = 0.02  # the usual initial deviation of weights, if no kept weight gives their size


@dataclass(frozen=True)
class Timing:
    """Quartiles of the repeated runs, in milliseconds."""

    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, milliseconds: list[float]) -> "Timing":
        """The quartiles of at least two runs."""
        return cls(*statistics.quantiles(milliseconds, n=4, method="inclusive"))

    @property
    def relative_range(self) -> float:
        """Interquartile range / median: the relative noise of repeated runs."""
        return (self.upper - self.lower) / self.median


@dataclass(frozen=True)
class Latency:
    """Forward passes of one batch, without dropout and gradients.

    Attributes:
        device: its type, and the name of a GPU.
        threads: of torch on a CPU.
        dtype: of the weights.
        batch: shapes of the tensors by name.
        runs: of each network.
        dense: with non-zero numbers where the mask prunes.
        pruned: with the zeros, as dense matrices.
        csr: with the masked linear layers as sparse matrices (CSR); None if not measured.
        no_csr: the reason why CSR was not measured.
    """

    device: str
    threads: int
    dtype: str
    batch: Mapping[str, tuple[int, ...]]
    runs: int
    dense: Timing
    pruned: Timing
    csr: Timing | None = None
    no_csr: str | None = None

    def verdict(self, timing: Timing) -> str:
        """How the network of `timing` compares with the dense one, in words.

        A ratio of medians counts if it exceeds the larger relative range of the two, and that is at
        most `MOST_NOISE`: times that vary more say nothing.
        """
        ratio = self.dense.median / timing.median
        noise = max(self.dense.relative_range, timing.relative_range)
        within = f"the noise of repeated runs is {noise:.1%}"
        if noise > MOST_NOISE:
            return f"not known ({within})"
        if max(ratio, 1 / ratio) - 1 <= noise:
            why = f": {ZEROS}" if timing is self.pruned else ""
            return f"no speed-up{why} (ratio {ratio:.2f}, {within})"
        if ratio > 1:
            return f"{ratio:.2f} times as fast as dense ({within})"
        return f"slower than dense, takes {1 / ratio:.2f} times as long ({within})"


def latency(
    model: nn.Module,
    batch: Batch,
    masks: Mapping[str, Tensor],
    *,
    runs: int = 11,
    warmup: int = 3,
    csr: bool = True,
) -> Latency:
    """Time forward passes of a pruned model; model, weights and random state do not change.

    Args:
        model: pruned; its forward takes the tensors of `batch` by name.
        batch: moved to the model's device first, outside the clock.
        masks: by parameter name, True = keep.
        runs: timed runs of each network, at least 5.
        warmup: runs of each before the clock.
        csr: measure sparse matrices as well, if torch supports them.

    Raises:
        MaskError: a mask fits no parameter of the model.
        SettingError: too few runs.
    """
    if runs < LEAST_RUNS or warmup < 0:
        raise SettingError(f"runs is {runs} and warmup {warmup}: give at least {LEAST_RUNS} and 0")
    parameters = masked_parameters(model, masks)
    device = device_of(model)
    batch = to_device(batch, device)
    filled = {name: _filled(p.detach(), masks[name]) for name, p in parameters.items()}
    networks: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "dense": lambda: _weights(parameters, filled),
        "pruned": nullcontext,
    }
    milliseconds: dict[str, list[float]] = {}
    no_csr = None if csr else "not asked for"
    random_devices = [device] if device.type == "cuda" else []
    with evaluation_mode(model), torch.no_grad(), torch.random.fork_rng(random_devices):
        if csr:
            try:
                networks["csr"] = _csr_network(model, masks)
                with networks["csr"]():
                    model(**batch)
            except RuntimeError as error:
                networks.pop("csr", None)
                no_csr = first_line(error)
        for run in range(-warmup, runs):
            for name, network in networks.items():
                with network():
                    passed = _timed(model, batch, device)
                if run >= 0:
                    milliseconds.setdefault(name, []).append(passed)
    return Latency(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        batch={name: tuple(tensor.shape) for name, tensor in batch.items()},
        runs=runs,
        no_csr=no_csr,
        **{name: Timing.of(values) for name, values in milliseconds.items()},
    )


def masked_parameters(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """The parameters that have a mask, in the order of `masks`.

    Raises:
        MaskError: a mask of no parameter of the model, or of another shape.
    """
    every = dict(model.named_parameters(remove_duplicate=False))
    parameters = {name: every[name] for name in masks if name in every}
    require_same_tensors(parameters, masks)
    return parameters


def _timed(model: nn.Module, batch: Batch, device: torch.device) -> float:
    """Milliseconds of a forward pass; the device is idle before and after it."""
    _synchronize(device)
    start = time.perf_counter()
    model(**batch)
    _synchronize(device)
    return (time.perf_counter() - start) * 1000


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _filled(weights: Tensor, mask: Tensor) -> Tensor:
    """The weights, with ± the root mean square of the kept ones in place of the pruned ones."""
    mask = mask.to(weights.device)
    size = weights[mask].double().square().mean().sqrt().item()
    # neither subnormal, which some processors multiply slowly, nor infinite or NaN
    if not torch.finfo(weights.dtype).tiny <= size <= torch.finfo(weights.dtype).max:
        size = _FILLING
    signs = torch.randint(0, 2, weights.shape, generator=torch.Generator().manual_seed(0))
    return torch.where(mask, weights, (signs * 2 - 1).to(weights) * size)


@contextmanager
def _weights(
    parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]
) -> Iterator[None]:
    """Other values in place of the parameters', whose own memory is not written to."""
    own = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = values[name]
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = own[name]


def _csr_network(
    model: nn.Module, masks: Mapping[str, Tensor]
) -> Callable[[], AbstractContextManager[None]]:
    """The model with its masked linear layers as sparse matrices.

    Raises:
        RuntimeError: there is no such layer, or torch has no CSR for this dtype and device.
    """
    layers: dict[nn.Module, Tensor] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "sparse matrices are a beta feature"
        for name, module in model.named_modules():
            if f"{name}.weight".lstrip(".") in masks and is_linear(module):
                weight: Any = module.weight.detach()
                # (outputs, inputs); GPT-2's layers store the transpose
                matrix = weight if isinstance(module, nn.Linear) else weight.T
                layers[module] = matrix.to_sparse_csr()
    if not layers:
        raise RuntimeError("no masked weight belongs to a linear layer")
    return lambda: _forwards({module: _csr_forward(module, csr) for module, csr in layers.items()})


def _csr_forward(module: nn.Module, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """x Wᵀ + b as (W xᵀ)ᵀ + b: a sparse matrix times a dense one."""
    bias: Any = module.bias

    def forward(input: Tensor) -> Tensor:  # noqa: A002 (as nn.Linear names it)
        flat = input.reshape(-1, input.shape[-1])
        product = (weight @ flat.t()).t().reshape(*input.shape[:-1], weight.shape[0])
        return product if bias is None else product + bias

    return forward


@contextmanager
def _forwards(forwards: Mapping[nn.Module, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Other forward methods in place of the modules' own."""
    own = {module: vars(module)["forward"] for module in forwards if "forward" in vars(module)}
    try:
        for module, forward in forwards.items():
            vars(module)["forward"] = forward
        yield
    finally:
        for module in forwards:
            vars(module).pop("forward", None)
        for module, forward in own.items():
            vars(module)["forward"] = forward
