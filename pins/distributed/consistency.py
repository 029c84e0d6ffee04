"""That all ranks are in the same run, and hold the same mask, bit for bit."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pins.distributed.process_group import Group
from pins.errors import CheckpointError, OptimalityError, SettingError
from pins.utils.bit_packing import packed


def require_same_masks(masks: Mapping[str, Tensor], step: int, group: Group) -> None:
    """That the masks of every rank have the digest of those of rank 0: 32 bytes a rank are sent.

    Raises:
        OptimalityError: on every rank, of a step after which the masks of some differ.
    """
    if group.size == 1:
        return
    found = group.gathered(torch.tensor(list(digest(masks)), dtype=torch.uint8))
    other = [rank for rank, each in enumerate(found) if not torch.equal(each, found[0])]
    if other:
        raise OptimalityError(
            f"after the decision of step {step} rank {', '.join(map(str, other))} of {group.size} "
            "does not have the masks of rank 0: the ranks no longer train the same model; are "
            "their devices and versions of torch the same?"
        )


def digest(masks: Mapping[str, Tensor]) -> bytes:
    """The SHA-256 of names, shapes and bits, in the order of the names."""
    sha = hashlib.sha256()
    for name in sorted(masks):
        sha.update(json.dumps([name, list(masks[name].shape)]).encode())
        sha.update(packed(masks[name]).cpu().numpy().tobytes())
    return sha.digest()


def require_same_run(fingerprint: Mapping[str, Any], step: int, group: Group) -> None:
    """That every rank was given the same settings, model and data, and goes on after one step.

    Raises:
        SettingError: on every rank, where the fingerprints of two differ.
        CheckpointError: likewise, where they found other checkpoints.
    """
    if group.size == 1:
        return
    text = json.dumps({**fingerprint, "step": step}).encode()
    found = group.gathered(torch.frombuffer(bytearray(text), dtype=torch.uint8))
    first, *others = [json.loads(bytes(each.tolist())) for each in found]
    for rank, other in enumerate(others, start=1):
        for name, value in first.items():
            if other.get(name) == value:
                continue
            if name == "step":
                raise CheckpointError(
                    f"rank {rank} goes on after step {other.get(name)}, rank 0 after step {value}: "
                    "give a folder that all of them see"
                )
            raise SettingError(
                f"rank {rank} has another {name} than rank 0 ({other.get(name)!r}, not {value!r}): "
                "give all of them the same"
            )
