"""Where a driver measures: the device that was asked for, and what a results file says of it."""

from collections.abc import Mapping
from typing import Any

import torch

from pins.errors import SettingError
from pins.utils.devices import choose_device

DEVICES = ("cuda", "cpu")


def place(device: str | None) -> torch.device:
    """The device asked for; by default a GPU, if there is one.

    Raises:
        SettingError: nothing is measured on such a device.
        DeviceError: there is none here.
    """
    found = device or ("cuda" if torch.cuda.is_available() else "cpu")
    chosen = choose_device(found, "float32").device
    if chosen.type not in DEVICES:
        raise SettingError(f"device is {found!r}: choose one of {', '.join(DEVICES)}")
    return chosen


def about(device: torch.device, made: Mapping[str, Any], cpu_memory: str) -> dict[str, str]:
    """Kind, name, and what is meant by memory there.

    Args:
        device: measured on.
        made: the provenance.
        cpu_memory: what it is on a CPU.
    """
    cuda = device.type == "cuda"
    return {
        "kind": device.type,
        "name": torch.cuda.get_device_name(device) if cuda else made["machine"]["processor"],
        "memory": "the most that tensors take at a time on the GPU" if cuda else cpu_memory,
    }
