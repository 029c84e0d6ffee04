"""Device and precision of a run, given or automatic."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from pins.errors import DeviceError
from pins.utils.lookup import choose_one

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Device:
    """A device, and the precision of matrix products on it; weights stay float32.

    Attributes:
        device: of model and batches.
        precision: one of `PRECISIONS`; autocast for 16 bits.
    """

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[None]:
        """Inside the block, matrix products have the precision `precision`."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.precision))

    def scaler(self) -> torch.amp.GradScaler | None:
        """A scaler of the loss for float16, whose gradients would underflow; else None."""
        if self.precision != "float16":
            return None
        return torch.amp.GradScaler(self.device.type)


def choose_device(
    device: str | None = None, precision: str | None = None, *, local_rank: int | None = None
) -> Device:
    """The given device, or the first available of CUDA, MPS and the CPU.

    Several processes use one CUDA device each, or all of them the CPU.

    Args:
        device: "cuda", "cuda:1", "mps", "cpu"; default: automatic.
        precision: one of `PRECISIONS`; default: bfloat16 if CUDA supports it, else float32, so that
            a run on a CPU repeats bit for bit.
        local_rank: number of this process among those on this machine; None: the only one.

    Raises:
        DeviceError: this machine does not have the device, or there is no such precision.
    """
    if local_rank is not None:
        device = _device_of_rank(device, local_rank)
    found = _device(device)
    if precision is None:
        fast = found.type == "cuda" and torch.cuda.is_bf16_supported()
        precision = "bfloat16" if fast else "float32"
    if precision not in PRECISIONS:
        raise DeviceError(
            f"there is no precision {precision!r}: {choose_one(precision, PRECISIONS)}"
        )
    return Device(found, precision)


def _device_of_rank(name: str | None, local_rank: int) -> str:
    if name not in (None, "cuda", "cpu"):
        raise DeviceError(
            f"device is {name!r}, and several processes compute: give cuda, of which each takes "
            "one, or cpu"
        )
    if name == "cpu" or (name is None and not torch.cuda.is_available()):
        return "cpu"
    there = torch.cuda.device_count()
    if there and local_rank >= there:
        raise DeviceError(
            f"there are {there} CUDA devices here, and process {local_rank + 1} wants one of its "
            f"own: start {there} processes, or give the device cpu"
        )
    return f"cuda:{local_rank}"


def _device(name: str | None) -> torch.device:
    kinds = [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()] + ["cpu"]
    try:
        device = torch.device(kinds[0] if name is None else name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is no device: give cuda, mps or cpu") from error
    beyond = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if device.type not in kinds or beyond:
        raise DeviceError(f"there is no device {name!r} here: there is {', '.join(kinds)}")
    return device
