"""The state of smoothing over ranks: local parts are saved as sharded tensors and loaded as parts.

Averages of scores have keys `KIND/NAME`; their counts `KIND.count/NAME` are numbers.
"""

from collections.abc import Mapping

from torch import Tensor

from pins.distributed.checkpoint import owner
from pins.distributed.sharding import like_sharding, part
from pins.errors import CheckpointError, MaskError


def sharded(parts: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Averages with the sharding of their parameters, from the local parts."""
    return {
        key: value if (like := _owner(key, parameters)) is None else like_sharding(value, like)
        for key, value in parts.items()
    }


def local_parts(state: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The local parts of averages that are whole, or sharded like their parameters.

    Raises:
        CheckpointError: their shapes or their sharding differ.
    """
    found = {}
    for key, value in state.items():
        like = _owner(key, parameters)
        try:
            found[key] = value if like is None else part(value, like)
        except MaskError as error:
            raise CheckpointError(f"the average {key!r} does not fit: {error}") from error
    return found


def _owner(key: str, parameters: Mapping[str, Tensor]) -> Tensor | None:
    return owner(f"smoothing/{key}", parameters)
