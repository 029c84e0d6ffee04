"""The states of torch's random generators, saved and restored rank by rank.

Each rank draws its own numbers (dropout). A run resumed with the same number of ranks draws the
same numbers as an uninterrupted run; with another number of ranks each rank gets a new seed,
derived from the seed of the run, the step and the rank.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from pins.distributed.process_group import Group
from pins.utils.io import unflatten


def seed_rank(seed: int, group: Group) -> None:
    """Seed torch's generators: with `seed` in one process, else with a derived seed per rank."""
    torch.manual_seed(seed if group.size == 1 else derived_seed(seed, 0, group.rank))


def derived_seed(seed: int, step: int, rank: int) -> int:
    """63 bits of the SHA-256 of seed, step and rank."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def random_states(device: torch.device, group: Group) -> dict[str, Tensor]:
    """The states of all ranks: "cpu", "cuda" or "mps" of rank 0, "r/cpu" … of rank r."""
    states = {}
    for kind, own in random_state(device).items():
        for rank, state in enumerate(group.gathered(own)):
            states[kind if rank == 0 else f"{rank}/{kind}"] = state
    return states


def restore_random_states(
    states: Mapping[str, Tensor], device: torch.device, group: Group, *, seed: int, step: int
) -> None:
    """Restore `random_states`; for another number of ranks, seed from `seed` and `step`."""
    ranks = sum(name.endswith("cpu") for name in states)
    if ranks not in (0, group.size):
        torch.manual_seed(derived_seed(seed, step, group.rank))
        return
    load_random_state(unflatten(states, str(group.rank)) if group.rank else states, device)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's random generators on the CPU and on `device`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def load_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore `random_state`, for the CPU and, if saved, for the kind of `device`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
