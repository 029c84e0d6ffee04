"""Free memory, of this machine and of a control group with a limit."""

from pathlib import Path

import pytest
import torch

from pins.utils import memory
from pins.utils.memory import free_bytes

CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="told on Linux alone")
def test_this_machine_has_free_memory() -> None:
    free = free_bytes(CPU)
    assert free is not None
    assert free > 0


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("limit", "free"), [(1000, 1000 - 600 + 250), (2**60, None)])
def test_a_control_group_limits_it_and_copies_of_files_are_free(
    version: int, limit: int, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *names, details, dropped = memory.LIMITS[2 - version]
    (tmp_path / details).parent.mkdir(exist_ok=True)
    for name, number in zip(names, (limit, 600), strict=True):
        (tmp_path / name).write_text(f"{number}\n")
    (tmp_path / details).write_text(f"anon 350\n{dropped} 250\n")
    alone = free_bytes(CPU)
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    found = free_bytes(CPU)
    if free is not None:
        assert found == free
    elif alone is not None:
        assert found is not None
        assert found > 600  # the machine has less than this limit
    (tmp_path / names[0]).write_text("max\n")
    unlimited = free_bytes(CPU)
    assert unlimited is None or unlimited > 1000
