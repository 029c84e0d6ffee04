"""What the families ask of a tokenizer beyond its call."""

from typing import Any

from pins.errors import ModelError


def padding(tokenizer: Any) -> dict[str, int]:
    """What fills up short rows of tokens, as `Encoded.fill` takes it."""
    token = tokenizer.pad_token_id
    return {"input_ids": 0 if token is None else token}  # masked out, so any token will do


def require_fast(tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot say which characters or words its tokens come from.

    Raises:
        ModelError: it is not one of the `tokenizers` library.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not say where its tokens come from: "
            "save the model with a fast tokenizer (tokenizer.json)"
        )
