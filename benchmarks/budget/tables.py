"""Error tables of realistic layers, with random errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pins.models.sparse_format import packed_bytes
from pins.selection.budget.table import FORMAT, VERSION, ErrorTable

ITEMSIZE = 2  # bytes of a bfloat16
BERT = ((384, 384),) * 4 + ((1536, 384), (384, 1536))
LLAMA = ((576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536))
SHAPES: Mapping[int, Sequence[tuple[int, int]]] = {
    12: BERT * 2,  # two layers of MiniLM's encoder
    42: LLAMA * 6,  # six blocks of SmolLM2-135M
    210: LLAMA * 30,  # all of them
}
SMOOTH, TIES = "smooth", "near ties"


def error_table(layers: int, levels: int, kind: str, seed: int) -> ErrorTable:
    """Sparsities 0, 1/L, …, (L − 1)/L of every layer, and convex errors up to noise.

    The error of sparsity s is a sᵇ / (1 − s)^0.7 with random a and b for each layer, times 1 ± 5 %.

    Args:
        layers: a key of `SHAPES`.
        levels: L.
        kind: `TIES` rounds all errors to 64ths, without noise: many sums are equal.
        seed: of the random numbers.
    """
    rng = np.random.default_rng([seed, layers, levels])
    stated = []
    for number, (rows, columns) in enumerate(SHAPES[layers]):
        a, b = float(rng.lognormal(-3)), float(rng.uniform(1.5, 2.5))
        options = []
        for level in range(levels):
            sparsity = level / levels
            error = a * sparsity**b / (1 - sparsity) ** 0.7
            noisy = error * float(rng.uniform(0.95, 1.05))
            kept = rows * round(columns * (1 - sparsity))
            size = packed_bytes((rows, columns), kept, ITEMSIZE) if level else ITEMSIZE * kept
            options.append(
                {
                    "level": sparsity,
                    "error": round(error * 64) / 64 if kind == TIES else noisy,
                    "bytes": size,
                }
            )
        stated.append({"name": f"layer {number}", "options": options})
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION, "layers": stated}
    return ErrorTable.of(document)
