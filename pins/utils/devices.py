"""Where and how precisely a run computes: device and precision, chosen or automatic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from pins.errors import DeviceError
from pins.utils.lookup import choose_one

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Device:
    """A device, and the precision of matrix products on it; weights stay float32.

    Attributes:
        device: where model and batches are.
        precision: of `PRECISIONS`; the 16-bit ones by autocast.
    """

    device: torch.device
    precision: str

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Matrix products in the precision asked for, inside the block."""
        if self.precision == "float32":
            yield
        else:
            dtype = getattr(torch, self.precision)
            with torch.autocast(self.device.type, dtype=dtype):
                yield

    def scaler(self) -> torch.amp.GradScaler | None:
        """float16 gradients need a scaled loss, or they underflow; the others need none."""
        if self.precision != "float16":
            return None
        return torch.amp.GradScaler(self.device.type)


def choose_device(
    device: str | None = None, precision: str | None = None, *, local_rank: int | None = None
) -> Device:
    """The device asked for, or the first there is of CUDA, MPS and the CPU.

    Of several processes each has a CUDA device of its own, or all of them the CPU.

    Args:
        device: "cuda", "cuda:1", "mps", "cpu"; default: automatic.
        precision: of `PRECISIONS`; default: bfloat16 where CUDA has it, else float32, so that a CPU
            run repeats bit for bit.
        local_rank: which of several processes on this machine this one is; None: the only one.

    Raises:
        DeviceError: there is no such device here, or no such precision on it.
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
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name is None:
        return torch.device(next(kind for kind, there in available.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is no device: give cuda, mps or cpu") from error
    there = available.get(device.type, False)
    if device.type == "cuda" and there and (device.index or 0) >= torch.cuda.device_count():
        there = False
    if not there:
        kinds = ", ".join(kind for kind, there in available.items() if there)
        raise DeviceError(f"there is no device {name!r} here: there is {kinds}")
    return device
