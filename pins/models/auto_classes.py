"""Calls of transformers: quiet, from safetensors, and without code that comes with a model."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pins.errors import ModelError, first_line
from pins.utils.repository import install_command


def load(auto_class: Any, folder: Path | str, *, local: bool = True, **options: Any) -> Any:
    """The only call of `from_pretrained`: it runs no code of the folder, and does not ask."""
    return auto_class.from_pretrained(
        folder, trust_remote_code=False, local_files_only=local, **options
    )


def reason(error: Exception) -> str:
    """The reason why a model does not load, in one line."""
    if "trust_remote_code" in str(error):
        return "it needs code that comes with it, which PINS does not run: give another model"
    line = first_line(error)
    if "AutoTokenizer" in line and importlib.util.find_spec("sentencepiece") is None:
        line += " It may need sentencepiece, which is not installed: run pip install sentencepiece"
    return line if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {line}"


def the_library() -> Any:
    """The module transformers, which is imported when it is needed.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            f"transformers is not installed: run {install_command('prune')}"
        ) from error
    return transformers


def loaded_as(model: Any) -> Callable[[str], tuple[str, int | None] | None]:
    """What a stored tensor becomes when transformers loads this model, by its stored name.

    Returns:
        The name of the tensor, and None; of one of the matrices that are stacked to a tensor
        (experts, rows, columns), the name of that and the place of its rows, 0, 1, …; None for
        what is changed in another way.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        Concatenate,
        MergeModulelist,
        WeightConverter,
        WeightRenaming,
        rename_source_key,
    )

    steps = get_model_conversion_mapping(model)
    renamings = [each for each in steps if isinstance(each, WeightRenaming)]
    converters = [each for each in steps if isinstance(each, WeightConverter)]
    places = {
        pattern: place
        for each in converters
        if [type(step) for step in each.operations]
        in ([MergeModulelist], [MergeModulelist, Concatenate])
        for place, pattern in enumerate(each.source_patterns)
    }
    base, known = model.base_model_prefix, model.state_dict()

    def loaded(stored: str) -> tuple[str, int | None] | None:
        name, pattern = rename_source_key(stored, renamings, converters, base, known)
        if pattern is None:
            return name, None
        return (name, places[pattern]) if pattern in places else None

    return loaded


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Inside the block without the loading bar and the report on a new head, which is intended."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
