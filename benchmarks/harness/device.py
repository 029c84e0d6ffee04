"""The device that is measured, and its description in a results file."""

import torch

from benchmarks.harness.results import Document
from pins.errors import SettingError
from pins.utils.devices import choose_device
from pins.utils.lookup import choose_one

DEVICES = ("cuda", "cpu")


def find_device(name: str | None) -> torch.device:
    """The device with this name; None: a GPU if there is one, else the CPU.

    Raises:
        SettingError: benchmarks do not measure this kind of device.
        DeviceError: this machine does not have the device.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    device = choose_device(name, "float32").device
    if device.type not in DEVICES:
        raise SettingError(f"device is {name!r}: {choose_one(name, DEVICES)}")
    return device


def describe_device(device: torch.device, document: Document, cpu_memory: str) -> dict[str, str]:
    """Kind and name of the device, and what its memory numbers mean (`cpu_memory` on a CPU)."""
    cuda = device.type == "cuda"
    processor = document["provenance"]["machine"]["processor"]
    return {
        "kind": device.type,
        "name": torch.cuda.get_device_name(device) if cuda else processor,
        "memory": "the most that tensors take at a time on the GPU" if cuda else cpu_memory,
    }
