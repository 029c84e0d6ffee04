"""The random numbers of a run: states of torch's generators, read out and put back, rank by rank.

Each rank draws its own (dropout). A run that goes on with as many ranks draws what it would have
drawn. With another number there is nothing to go on with: seeds are made from that of the run, the
step and the rank.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group

KINDS = ("cpu", "cuda", "mps")


def start(seed: int, group: Group = SINGLE_PROCESS) -> None:
    """The seed itself in one process, else one for each rank."""
    torch.manual_seed(seed if group.size == 1 else derived_seed(seed, 0, group.rank))


def derived_seed(seed: int, step: int, rank: int) -> int:
    """63 bits of the SHA-256 of seed, step and rank."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def random_states(device: torch.device, group: Group = SINGLE_PROCESS) -> dict[str, Tensor]:
    """The states of all ranks: those of rank 0 by kind ("cpu", "cuda"), of rank r as "r/kind"."""
    states = {}
    for kind, own in random_state(device).items():
        for rank, state in enumerate(group.gathered(own)):
            states[kind if rank == 0 else f"{rank}/{kind}"] = state
    return states


def go_on(
    states: Mapping[str, Tensor],
    device: torch.device,
    group: Group = SINGLE_PROCESS,
    *,
    seed: int = 0,
    step: int = 0,
) -> None:
    """Draw on as `random_states` found it; with seeds from `step` at another number of ranks."""
    ranks = sum(name.endswith("cpu") for name in states)
    if ranks not in (0, group.size):
        torch.manual_seed(derived_seed(seed, step, group.rank))
        return
    prefix = f"{group.rank}/" if group.rank else ""
    own = {kind: states[prefix + kind] for kind in KINDS if prefix + kind in states}
    load_random_state(own, device)


def random_state(device: torch.device | None = None) -> dict[str, Tensor]:
    """The state of torch's random generators: the CPU's, and that of the device computed on."""
    state = {"cpu": torch.get_rng_state()}
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device is not None and device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def load_random_state(state: Mapping[str, Tensor], device: torch.device | None = None) -> None:
    """Draw on as `random_state` found it, as far as it was of the same kind of device."""
    torch.set_rng_state(state["cpu"])
    if device is not None and device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device is not None and device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
