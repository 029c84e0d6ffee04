"""Triton's kernels of a pass over scores: every score is read once and compared as its key.

A launch is over blocks of many pieces of tensors. Each program finds its piece in a table of rows
of `COLUMNS` int64: the addresses of its scores and mask, their number, the launch's and the pass's
first block of the piece, the piece's number in the pass; and what is asked of it: low, high, every.

Integers are compared, never floats, so nothing depends on how a GPU treats denormals. Where types
are mixed, a narrower float is first made a wider one, which is exact.
"""

# Triton comes with PyTorch's builds for CUDA. Of a kernel it reads annotations as types of its own,
# and what is upper case is a constant of it, with a kernel compiled for each of its values.
# ruff: noqa: ANN001, ANN201, ANN202, N803
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, no-untyped-def"
# mypy: disable-error-code="no-untyped-call"

import torch
import triton
import triton.language as tl

COLUMNS = 9
COUNTERS = 3  # of each piece by `mark`: above, inside, gathered
COUNTS = 4  # of each piece by `count`: kept, kept below, pruned above, pruned equal
RUN = 3  # of each block: its place in the buffer, how many are there, its first position
TYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}

_COLUMNS = tl.constexpr(COLUMNS)
_COUNTERS = tl.constexpr(COUNTERS)
_COUNTS = tl.constexpr(COUNTS)
_RUN = tl.constexpr(RUN)
_NUMBERS = ["room", "size"]  # no kernel for each value of them


@triton.jit
def _find(table, rows, BLOCK: tl.constexpr):
    """This program's piece: its row; the block's number in the pass; its first position; size."""
    program = tl.program_id(0)
    row = table + tl.load(rows + program) * _COLUMNS
    local = program - tl.load(row + 3)
    start = local * BLOCK
    left = tl.minimum(tl.load(row + 2) - start, BLOCK).to(tl.int32)
    return row, tl.load(row + 4) + local, start, left


@triton.jit
def _load(address, start, left, TYPE: tl.constexpr, BLOCK: tl.constexpr):
    """A block of numbers, the first `left` of which are there."""
    lanes = tl.arange(0, BLOCK)
    aligned = address // 16 * 16
    if (aligned == address) & (left == BLOCK):  # 16 bytes at a time
        numbers = tl.load(tl.multiple_of(aligned.to(tl.pointer_type(TYPE)), 16) + start + lanes)
    else:
        numbers = tl.load(
            address.to(tl.pointer_type(TYPE)) + start + lanes, mask=lanes < left, other=0
        )
    return numbers


@triton.jit
def _keys(
    address,
    start,
    left,
    SOURCE: tl.constexpr,
    COMMON: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The keys of a block of scores, as in `pins.selection.scan.float_keys`."""
    scores = _load(address, start, left, SOURCE, BLOCK)
    if SOURCE is tl.bfloat16 and COMMON is not tl.bfloat16:
        # float32 has these bits and sixteen more; Triton's interpreter makes 0 of a denormal
        bits16 = scores.to(tl.int16, bitcast=True).to(tl.int32)
        scores = (bits16 << 16).to(tl.float32, bitcast=True)
    scores = scores.to(COMMON)
    width: tl.constexpr = COMMON.primitive_bitwidth
    if width == 64:
        bits = scores.to(tl.int64, bitcast=True)
    elif width == 32:
        bits = scores.to(tl.int32, bitcast=True)
    else:
        bits = scores.to(tl.int16, bitcast=True).to(tl.int32)
    magnitude: tl.constexpr = (1 << (width - 1)) - 1
    least: tl.constexpr = -magnitude - 1  # the bits of −0.0
    # a shift by more than a 16-bit number's width is by 31, and gives its sign as well
    flipped = bits ^ ((bits >> (31 if width < 64 else 63)) & magnitude)
    return tl.where(bits == least, 0, flipped)


@triton.jit(do_not_specialize=_NUMBERS)
def mark(
    table,
    rows,
    room: tl.int64,
    counters,
    used,
    runs,
    lanes_inside,
    keys_inside,
    SOURCE: tl.constexpr,
    COMMON: tl.constexpr,
    WRITE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Masks of the keys above an interval; counts; those inside, in runs of a block each.

    Blocks take their places in the buffer as they come; `order` puts their runs in order.
    """
    row, block, start, left = _find(table, rows, BLOCK)
    low, high, every = tl.load(row + 6), tl.load(row + 7), tl.load(row + 8)
    lanes = tl.arange(0, BLOCK)
    keys = _keys(tl.load(row), start, left, SOURCE, COMMON, BLOCK)
    there = lanes < left
    above = (keys > high.to(keys.dtype)) & there
    inside = (keys >= low.to(keys.dtype)) & (keys <= high.to(keys.dtype)) & there
    if WRITE:
        address = tl.load(row + 1)
        aligned = address // 16 * 16
        if (aligned == address) & (left == BLOCK):
            pointers = tl.multiple_of(aligned.to(tl.pointer_type(tl.int8)), 16) + start + lanes
            tl.store(pointers, above.to(tl.int8))
        else:
            pointers = address.to(tl.pointer_type(tl.int8)) + start + lanes
            tl.store(pointers, above.to(tl.int8), mask=there)
    both = tl.sum(above.to(tl.int32) + (inside.to(tl.int32) << 16), 0)  # a block is < 2¹⁶
    taken = both >> 16
    counter = counters + tl.load(row + 5) * _COUNTERS
    tl.atomic_add(counter, (both & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counter + 1, taken.to(tl.int64), sem="relaxed")
    picked = inside
    if every > 1:
        picked = inside & (((start % every).to(tl.int32) + lanes) % every.to(tl.int32) == 0)
        taken = tl.sum(picked.to(tl.int32), 0)
    if every == 0:
        taken = taken * 0
    tl.store(runs + block * _RUN + 1, taken.to(tl.int64))
    tl.store(runs + block * _RUN + 2, start)
    if (room > 0) & (taken > 0):
        tl.atomic_add(counter + 2, taken.to(tl.int64), sem="relaxed")
        place = tl.atomic_add(used, taken.to(tl.int64), sem="relaxed")
        tl.store(runs + block * _RUN, place)
        rank = tl.cumsum(picked.to(tl.int32), 0) - 1
        picked = picked & (place + rank < room)
        tl.store(lanes_inside + place + rank, lanes, mask=picked)
        tl.store(keys_inside + place + rank, keys, mask=picked)


@triton.jit
def order(
    runs,
    targets,
    lanes_inside,
    keys_inside,
    positions,
    values,
    BLOCK: tl.constexpr,
):
    """What `mark` gathered, block after block: positions and keys."""
    block = tl.program_id(0)
    target = tl.load(targets + block)
    place = tl.load(runs + block * _RUN)
    taken = tl.load(runs + block * _RUN + 1)
    start = tl.load(runs + block * _RUN + 2)
    lanes = tl.arange(0, BLOCK)
    here = lanes < taken
    inside = tl.load(lanes_inside + place + lanes, mask=here, other=0)
    tl.store(positions + target + lanes, start + inside, mask=here)
    keys = tl.load(keys_inside + place + lanes, mask=here, other=0)
    tl.store(values + target + lanes, keys, mask=here)


@triton.jit
def count(
    table,
    rows,
    counters,
    SOURCE: tl.constexpr,
    COMMON: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Numbers of kept keys, of kept ones below `high`, pruned ones above it, pruned equal ones."""
    row, _, start, left = _find(table, rows, BLOCK)
    there = tl.arange(0, BLOCK) < left
    keys = _keys(tl.load(row), start, left, SOURCE, COMMON, BLOCK)
    kept = _load(tl.load(row + 1), start, left, tl.int8, BLOCK) != 0
    bound = tl.load(row + 7).to(keys.dtype)
    below = (keys < bound) & kept & there
    above = (keys > bound) & ~kept & there
    equal = (keys == bound) & ~kept & there
    counter = counters + tl.load(row + 5) * _COUNTS
    wrong = tl.sum(below.to(tl.int32) + (above.to(tl.int32) << 16), 0)
    if wrong > 0:
        tl.atomic_add(counter + 1, (wrong & 0xFFFF).to(tl.int64), sem="relaxed")
        tl.atomic_add(counter + 2, (wrong >> 16).to(tl.int64), sem="relaxed")
    rest = tl.sum((kept & there).to(tl.int32) + (equal.to(tl.int32) << 16), 0)
    if rest > 0:
        tl.atomic_add(counter, (rest & 0xFFFF).to(tl.int64), sem="relaxed")
        tl.atomic_add(counter + 3, (rest >> 16).to(tl.int64), sem="relaxed")


@triton.jit(do_not_specialize=_NUMBERS)
def draw(
    table,
    rows,
    places,
    size,
    drawn,
    SOURCE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """drawn ← the scores at places of the tensors with these rows."""
    lanes = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = lanes < size
    row = table + tl.load(rows + lanes, mask=here, other=0) * _COLUMNS
    place = tl.load(places + lanes, mask=here, other=0)
    pointers = tl.load(row, mask=here, other=0).to(tl.pointer_type(SOURCE)) + place
    tl.store(drawn + lanes, tl.load(pointers, mask=here, other=0), mask=here)
