"""Bools (a byte each) as 64-bit words of eight: count, find, pack to bits, unpack, apply.

8·w bools are w words. The order of the bytes within a word depends on the machine; every machine
that PyTorch supports is little-endian.
"""

import functools

import torch
from torch import Tensor

WORD = 8  # bools in a word
_LANES = 255  # words whose sum has no carry from byte to byte
# the highest byte of (this · a word of eight 0-1 bytes) has the bits b0 (lowest) … b7
_GATHER_BITS = 0x0102040810204080
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_CLEARED = 1 << 20  # numbers at a time: bounds the memory for their bit masks
_PACKED = 1 << 17  # words at a time: the same


def padded(size: int) -> int:
    """The least multiple of `WORD` that is ≥ size."""
    return -(-size // WORD) * WORD


def ones(bits: Tensor) -> Tensor:
    """Number of ones, as a 0-d int64 tensor; fast for 8·w bools on a CPU.

    Sums of at most 255 words have no carry between bytes; the bytes of these sums are added after
    that. This takes an eighth of the additions and is exact.
    """
    if bits.device.type != "cpu" or bits.numel() % WORD:
        return bits.count_nonzero()
    words = _as_words(bits)
    whole = words.numel() // _LANES * _LANES
    lanes = words[:whole].view(-1, _LANES).sum(1)
    return lanes.view(torch.uint8).sum() + words[whole:].view(torch.uint8).sum()


def positions(bits: Tensor) -> Tensor:
    """The indices of the ones among 8·w bools, ascending, int64; fast if they are few."""
    all_words = bits.view(torch.int64)
    words = all_words.nonzero().view(-1)
    if len(words) > len(all_words) // 2:
        return bits.nonzero().view(-1)
    found = all_words[words].view(torch.bool).nonzero().view(-1)
    first = words[found >> 3]
    first <<= 3
    first |= found.bitwise_and_(WORD - 1)
    return first


def packed(mask: Tensor) -> Tensor:
    """Bool i as bit i mod 8 (lowest first) of byte ⌊i/8⌋, uint8; padding bits are 0."""
    flat = mask.detach().reshape(-1)
    if flat.numel() % WORD:
        flat = torch.nn.functional.pad(flat, (0, padded(flat.numel()) - flat.numel()))
    words = _as_words(flat)
    found = torch.empty(len(words), dtype=torch.uint8, device=flat.device)
    for start in range(0, len(words), _PACKED):
        some = words[start : start + _PACKED] * _GATHER_BITS
        some >>= 56
        found[start : start + _PACKED] = some
    return found


def unpacked(bits: Tensor, shape: torch.Size) -> Tensor:
    """The bools of `packed` bits."""
    words = _words(bits.device)[bits.int()]
    size = shape.numel()
    flat = words.view(torch.bool)
    return (flat if flat.numel() == size else flat[:size].clone()).view(shape)


def packed_rows(mask: Tensor) -> Tensor:
    """The bits (rows, ⌈columns/8⌉) of bools (rows, columns), each row `packed` by itself."""
    rows, columns = mask.shape
    wide = torch.nn.functional.pad(mask, (0, padded(columns) - columns))
    return packed(wide).view(rows, padded(columns) // WORD)


def unpacked_rows(bits: Tensor, columns: int) -> Tensor:
    """The bools (rows, columns) of `packed_rows` bits.

    Raises:
        ValueError: the bits have another dtype or shape, or a padding bit is set.
    """
    if bits.dtype != torch.uint8 or bits.shape[1:] != (padded(columns) // WORD,):
        raise ValueError(f"{tuple(bits.shape[1:])} of {bits.dtype} cannot hold {columns} bits")
    wide = unpacked(bits.reshape(-1), torch.Size([len(bits), padded(columns)]))
    if wide[:, columns:].any():
        raise ValueError("a padding bit is set")
    return wide[:, :columns].contiguous()


def clear(tensor: Tensor, bits: Tensor) -> None:
    """tensor ← m ⊙ tensor in place, m packed: +0.0 if m is 0, also for NaN and negative numbers.

    A bitwise AND of each number with all ones or all zeros: kept numbers keep every bit, and it
    takes a quarter of the time of `masked_fill_`.
    """
    integer = _INTEGERS.get(tensor.element_size())
    if integer is None or not tensor.is_contiguous():
        tensor.detach().masked_fill_(~unpacked(bits, tensor.shape), 0)
        return
    flat = tensor.detach().view(integer).view(-1)
    for start in range(0, flat.numel(), _CLEARED):
        block = flat[start : start + _CLEARED]
        some = bits[start // WORD : (start + len(block) + WORD - 1) // WORD]
        kept = _all_bits(integer, tensor.device).index_select(0, some.int()).view(-1)
        block.bitwise_and_(kept[: len(block)])


def _as_words(bits: Tensor) -> Tensor:
    """8·w bools as w words; a copy if they are not aligned to a word or not contiguous."""
    flat = bits.reshape(-1)
    if flat.storage_offset() % WORD or flat.stride(0) != 1:
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.int64)


@functools.cache
def _all_bits(integer: torch.dtype, device: torch.device) -> Tensor:
    """For each of the 256 bytes eight integers, all bits one or all bits zero."""
    byte = torch.arange(256, device=device)
    return -((byte[:, None] >> torch.arange(WORD, device=device)) & 1).to(integer)


@functools.cache
def _words(device: torch.device) -> Tensor:
    """For each of the 256 bytes the word of its eight bools."""
    byte = torch.arange(256, device=device)
    return ((byte[:, None] >> torch.arange(WORD, device=device)) & 1).bool().view(torch.int64)[:, 0]
