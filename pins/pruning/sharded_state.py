"""The state of a pruner over ranks: what is held in parts goes out sharded and comes in as parts.

Averages of scores are by kind and tensor, `KIND/NAME`, their counts `KIND.count/NAME` are numbers.
"""

from collections.abc import Mapping

from torch import Tensor

from pins.distributed.sharding import like_sharding, part
from pins.errors import CheckpointError, MaskError


def spread(parts: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Averages whose parts this rank holds, cut as their parameters."""
    return {
        key: value if (like := _like(key, parameters)) is None else like_sharding(value, like)
        for key, value in parts.items()
    }


def held(state: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What this rank holds of averages that are whole, or cut as their parameters.

    Raises:
        CheckpointError: they are of other shapes, or cut in another way.
    """
    found = {}
    for key, value in state.items():
        like = _like(key, parameters)
        try:
            found[key] = value if like is None else part(value, like)
        except MaskError as error:
            raise CheckpointError(f"the average {key!r} does not fit: {error}") from error
    return found


def _like(key: str, parameters: Mapping[str, Tensor]) -> Tensor | None:
    """The parameter of an average; None for a number, and where there is no such parameter."""
    kind, _, name = key.partition("/")
    return None if kind.endswith(".count") else parameters.get(name)
