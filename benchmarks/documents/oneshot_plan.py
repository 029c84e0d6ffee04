"""What `pins oneshot` takes on paper: bytes and seconds of each stage, by model and method.

A block has matrices of r outputs and c inputs. D are its distinct inputs, of width c each: queries,
keys and values share one. T tokens calibrate, S are tested, in windows of length ℓ.

    the block              4 Σ rc                      float32
    outside of the blocks  8 · vocabulary · width      embedding and output matrix
    hidden states          4 (T + 2S)(width + 2 head)  with the cosines and sines of positions
    Gram matrices          16 Σ_D c²                   the sum and its slot, float64
    a method               8 · COPIES · max c²         damped, factor, inverse, …, float64

    disk       2 Σ rc read, (2 + 1/8) Σ rc written     16 bits, and a bit of a mask; scores: 4 Σ rc
    forward    4 (T + S)(Σ rc + 2ℓ · width) flops      calibration and test twice each
    Gram       2 T Σ_D c² flops                        an expert with its share of the tokens
    SparseGPT  Σ (4/3 c³ + r c²) float64 flops         and CALLS operations for each column
    refit      Σ r k³/3 float64 flops                  k = c/2
    exchange   8 · SLOTS · Σ_D c²                      that reach each of several ranks

Several ranks divide forward, Gram and refit; each reads the block and does what a method does to a
whole matrix.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.harness import markdown
from benchmarks.harness.markdown import number
from pins.oneshot.gram import SLOTS

WINDOW, CALIBRATION, TEST = 2048, 128 * 2048, 64 * 2048  # tokens
COPIES, CALLS = 4, 5  # of the largest G; operations for a column of SparseGPT
# assumed, not measured, of an H200 and its host
FLOAT32, FLOAT64 = 50e12, 30e12  # flops a second
LINK, DISK, DISPATCH = 50e9, 3e9, 5e-6  # bytes a second, bytes a second, seconds
RANKS = (1, 8)


@dataclass(frozen=True)
class Shape:
    """A decoder of Llama's kind.

    Attributes:
        blocks: number of blocks.
        width: of the hidden states; queries have it too.
        keys: width of keys, and of values.
        inner: width inside of a feed-forward layer.
        experts: number of feed-forward layers of a block.
        chosen: how many of them a token is sent to.
        head: width of a head.
        vocabulary: number of tokens.
    """

    blocks: int
    width: int
    keys: int
    inner: int
    experts: int = 1
    chosen: int = 1
    head: int = 128
    vocabulary: int = 32_000

    @property
    def matrices(self) -> list[tuple[int, int, int, float]]:
        """Outputs, inputs, number, and share of the tokens, of a block's matrices."""
        share = self.chosen / self.experts
        return [
            (self.width, self.width, 2, 1.0),
            (self.keys, self.width, 2, 1.0),
            (self.inner, self.width, 2 * self.experts, share),
            (self.width, self.inner, self.experts, share),
        ]

    @property
    def inputs(self) -> list[tuple[int, int, float]]:
        """Width, number, and share of the tokens, of a block's distinct inputs."""
        share = self.chosen / self.experts
        return [
            (self.width, 2, 1.0),
            (self.width, self.experts, share),
            (self.inner, self.experts, share),
        ]

    @property
    def weights(self) -> int:
        """Of a block."""
        return sum(rows * columns * count for rows, columns, count, _ in self.matrices)

    @property
    def squares(self) -> int:
        """Numbers in the Gram matrices of a block."""
        return sum(width**2 * count for width, count, _ in self.inputs)


MODELS: Mapping[str, Shape] = {
    "7 B": Shape(32, 4096, 4096, 11_008),
    "70 B": Shape(80, 8192, 1024, 28_672),
    "8 × 7 B": Shape(32, 4096, 1024, 14_336, experts=8, chosen=2),
}


def memory(shape: Shape) -> dict[str, float]:
    """Bytes of a rank, by what they are."""
    return {
        "the block": 4 * shape.weights,
        "outside of the blocks": 8 * shape.vocabulary * shape.width,
        "hidden states": 4 * (CALIBRATION + 2 * TEST) * (shape.width + 2 * shape.head),
        "Gram matrices": 16 * shape.squares,
        "a method": 8 * COPIES * max(shape.width, shape.inner) ** 2,
    }


def seconds(shape: Shape, ranks: int) -> dict[str, float]:
    """Seconds of a block, by what they are spent on."""
    active = sum(rows * columns * count * part for rows, columns, count, part in shape.matrices)
    gram = 2 * CALIBRATION * sum(width**2 * count * part for width, count, part in shape.inputs)
    forward = 4 * (CALIBRATION + TEST) * (active + 2 * WINDOW * shape.width)
    sparsegpt = refit = 0.0
    for rows, columns, count, _ in shape.matrices:
        flops = 4 / 3 * columns**3 + rows * columns**2
        sparsegpt += count * (flops / FLOAT64 + CALLS * columns * DISPATCH)
        refit += count * rows * (columns / 2) ** 3 / 3 / FLOAT64
    return {
        "disk": (4 + 1 / 8) * shape.weights / DISK,
        "forward": forward / FLOAT32 / ranks,
        "Gram": gram / FLOAT32 / ranks,
        "exchange": 8 * SLOTS * shape.squares / LINK if ranks > 1 else 0.0,
        "scores": 4 * shape.weights / DISK,
        "SparseGPT": sparsegpt,
        "refit": refit / ranks,
    }


def tables() -> str:
    """Memory and time of each model, and what was assumed."""
    bytes_of = {name: memory(shape) for name, shape in MODELS.items()}
    parts = next(iter(bytes_of.values()))
    head = f"GB of a GPU | {' | '.join(parts)} | all | the model's files | files of the run"
    rows = (
        f"{name} | {' | '.join(number(each / 1e9) for each in found.values())} | "
        f"**{number(sum(found.values()) / 1e9)}** | {number(_files(MODELS[name]) / 1e9)} | "
        f"{number(_files(MODELS[name], run=True) / 1e9)}"
        for name, found in bytes_of.items()
    )
    stages = [*seconds(MODELS["7 B"], 1)]
    times = f"seconds a block | GPUs | {' | '.join(stages)} | Wanda, all blocks, min | "
    times += "SparseGPT | SparseGPT and refit"
    assumed = (
        f"On paper, not measured: {CALIBRATION // WINDOW} windows of {WINDOW:,} tokens to "
        f"calibrate on, {TEST // WINDOW} to test, files of 16 bits; half of each row is kept. "
        f"Assumed of an H200: {FLOAT32 / 1e12:g} TFLOPS in float32 and {FLOAT64 / 1e12:g} in "
        f"float64, {LINK / 1e9:g} GB/s between GPU, host and other ranks, {DISK / 1e9:g} GB/s of "
        f"the disk, {DISPATCH * 1e6:g} µs to call an operation. The formulas are in "
        "`benchmarks/documents/oneshot_plan.py`."
    )
    return markdown.document(
        markdown.table(head, "lr", rows), markdown.table(times, "lr", _times()), assumed
    ).rstrip()


def _files(shape: Shape, *, run: bool = False) -> float:
    """Bytes of the model's files; of a run they have masks and scores too."""
    each = 2 + 1 / 8 + 4 if run else 2
    return each * shape.blocks * shape.weights + 4 * shape.vocabulary * shape.width


def _times() -> Iterator[str]:
    for name, shape in MODELS.items():
        for ranks in RANKS:
            took = seconds(shape, ranks)
            shared = sum(took[part] for part in ("disk", "forward", "Gram", "exchange"))
            ends = (
                shared + took["scores"],
                shared + took["SparseGPT"],
                shared + took["SparseGPT"] + took["refit"],
            )
            cells = [number(each) for each in took.values()]
            cells += [number(shape.blocks * end / 60) for end in ends]
            yield f"{name} | {ranks} | {' | '.join(cells)}"
