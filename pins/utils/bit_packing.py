"""Bools, 0 or 1 in a byte each, eight at a time as one 64-bit word: count, find, pack, apply.

Where a tensor has 8·w bools, w words do. Only the order of the bytes within a word depends on the
machine; all that PyTorch supports put the first one lowest.
"""

import functools

import torch
from torch import Tensor

WORD = 8  # bools in a word
_LANES = 255  # words that can be added without a byte running over
# multiplied with a word of eight 0-1 bytes, its highest byte has the bits b0 (lowest) … b7
_GATHER_BITS = 0x0102040810204080
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_CLEARED = 1 << 20  # numbers at a time: bounds the memory that their ones and zeros take
_PACKED = 1 << 17  # words at a time: the same


def padded(size: int) -> int:
    """The next multiple of a word."""
    return -(-size // WORD) * WORD


def ones(bits: Tensor) -> Tensor:
    """Number of ones, as a 0-d int64 tensor; quick where there are 8·w bools.

    Words are added as they are, 255 at most so that no byte runs over into the next, and the bytes
    of these sums after that: an eighth of the additions, exact.
    """
    if bits.device.type != "cpu" or bits.numel() % WORD:
        return bits.count_nonzero()
    words = _as_words(bits)
    whole = words.numel() // _LANES * _LANES
    lanes = words[:whole].view(-1, _LANES).sum(1)
    return lanes.view(torch.uint8).sum() + words[whole:].view(torch.uint8).sum()


def positions(bits: Tensor) -> Tensor:
    """Where the ones are among 8·w bools, ascending, int64; quick where they are few."""
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
    """One bit a bool, uint8: bit i mod 8 (lowest first) of byte ⌊i/8⌋; the last byte ends in 0."""
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
    """The bools that `packed` made bits of."""
    words = _words(bits.device)[bits.int()]
    size = shape.numel()
    flat = words.view(torch.bool)
    return (flat if flat.numel() == size else flat[:size].clone()).view(shape)


def clear(tensor: Tensor, bits: Tensor) -> None:
    """tensor ← m ⊙ tensor in place, m packed: +0.0 where m is 0, whatever stood there.

    A bitwise AND of each number with ones or zeros: kept ones keep every bit, and it takes a
    quarter of the time of `masked_fill_`.
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
    """8·w bools as w words; a copy where they do not begin at one, or do not lie side by side."""
    flat = bits.reshape(-1)
    if flat.storage_offset() % WORD or flat.stride(0) != 1:
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.int64)


@functools.cache
def _all_bits(integer: torch.dtype, device: torch.device) -> Tensor:
    """Of each of the 256 bytes eight integers, all bits one or all zero."""
    byte = torch.arange(256, device=device)
    return -((byte[:, None] >> torch.arange(WORD, device=device)) & 1).to(integer)


@functools.cache
def _words(device: torch.device) -> Tensor:
    """The word of eight bools of each of the 256 bytes."""
    byte = torch.arange(256, device=device)
    return ((byte[:, None] >> torch.arange(WORD, device=device)) & 1).bool().view(torch.int64)[:, 0]
