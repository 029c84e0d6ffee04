"""Compile each of Triton's kernels for a GPU that need not be there; `test_triton_scan` runs this.

What is looked at: that it compiles to machine code; that no instruction flushes denormals; that a
block which begins at sixteen bytes is loaded sixteen bytes at a time.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

import re
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pins.selection.scan import triton_kernels
from pins.selection.scan.triton_launch import BLOCK

NAMES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}
KEYS = {"float16": "i16", "bfloat16": "i16", "float32": "i32", "float64": "i64"}
KERNELS = ("mark", "order", "count", "draw")


def signature(kernel: Any, source: str, common: str) -> dict[str, str]:
    """The type of each parameter, by its name."""
    types = {
        "room": "i64",
        "size": "i32",
        "lanes_inside": "*i16",
        "keys_inside": f"*{KEYS[common]}",
        "values": f"*{KEYS[common]}",
        "drawn": f"*{NAMES[source]}",
    }
    return {
        name: "constexpr" if name.isupper() else types.get(name, "*i64")
        for name in kernel.arg_names
    }


def compiled(name: str, source: torch.dtype, common: torch.dtype, capability: int) -> str:
    """The kernel's PTX."""
    kernel = getattr(triton_kernels, name)
    constants = {
        "SOURCE": triton_kernels.TYPES[source],
        "COMMON": triton_kernels.TYPES[common],
        "WRITE": True,
        "BLOCK": BLOCK,
    }
    types = signature(kernel, str(source).split(".")[1], str(common).split(".")[1])
    used = {(i,): constants[n] for i, n in enumerate(kernel.arg_names) if n.isupper()}
    made = triton.compile(
        ASTSource(kernel, types, used),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": 8},
    )
    assert len(made.asm["cubin"]) > 1000
    ptx: str = made.asm["ptx"]
    return ptx


def main(capability: int) -> None:
    """Compile all of them for scores of each type, and `mark` for some mixed ones."""
    for dtype in triton_kernels.TYPES:
        for name in KERNELS:
            ptx = compiled(name, dtype, dtype, capability)
            assert ".ftz" not in ptx, (name, dtype)
            if name in ("mark", "count"):
                assert re.search(r"ld\.global\.v(4\.b32|2\.b64)", ptx), (name, dtype)
    for source, common in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float64),
    ):
        assert ".ftz" not in compiled("mark", source, common, capability), (source, common)
    print(len(KERNELS), "kernels")  # noqa: T201 (what the test reads)


if __name__ == "__main__":
    main(int(sys.argv[1]))
