"""Checks that all ranks are in the same run and hold the same mask, bit for bit."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pins.distributed.collectives import gather_json
from pins.distributed.process_group import Group
from pins.errors import CheckpointError, OptimalityError, SettingError
from pins.utils.bit_packing import packed


def require_same_masks(masks: Mapping[str, Tensor], step: int, group: Group) -> None:
    """Check that the masks of every rank have the digest of rank 0's; each rank sends 32 bytes.

    Raises:
        OptimalityError: on every rank, if the masks of some rank differ after this step.
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
    """Check that every rank has the same settings, model and data, and resumes after one step.

    Raises:
        SettingError: on every rank, if two fingerprints differ.
        CheckpointError: on every rank, if two ranks found different checkpoints.
    """
    if group.size == 1:
        return
    first, *others = gather_json(group, {**fingerprint, "step": step})
    for rank, other in enumerate(others, start=1):
        for name, value in first.items():
            if other.get(name) == value:
                continue
            if name == "step":
                raise CheckpointError(
                    f"rank {rank} resumes after step {other.get(name)}, rank 0 after step {value}: "
                    "give a folder that all of them see"
                )
            raise SettingError(
                f"rank {rank} has another {name} than rank 0 ({other.get(name)!r}, not {value!r}): "
                "give all of them the same"
            )
