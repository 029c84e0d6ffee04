"""Rows of the Hugging Face hub's data sets: the only module that imports `datasets`.

Data files only: since its version 4, `datasets` runs no code that a data set brings along.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pins.errors import TaskError, first_line

INSTEAD = "give --data with the folder of the original files"


def hub_rows(
    name: str, config: str | None, split: str, *, revision: str | None = None
) -> list[dict[str, Any]]:
    """The rows of one split, each by column name.

    Classes are given by name, not by the number in the data set; a row without a class (None or −1
    there) has None.

    Args:
        name: an id on the hub, as `nyu-mll/glue`, or a folder in the layout of one.
        config: of the data set, as `rte`; None: its only one.
        split: as `train` or `validation`.
        revision: a branch, tag or commit; None: the main branch.

    Raises:
        TaskError: `datasets` is not installed, the hub is out of reach, or has no such split.
    """
    described = " ".join(part for part in (name, config, split) if part)
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise TaskError(
            f"{described} needs datasets, which is not installed: install it (pip install "
            f"datasets), or {INSTEAD}"
        ) from error
    try:
        with _quiet(datasets):
            table = datasets.load_dataset(name, config, split=split, revision=revision)
            columns = {
                column: [_named(value, table.features[column]) for value in table[column]]
                for column in table.column_names
            }
    except Exception as error:  # the hub's client does not wrap the errors of its HTTP library
        raise TaskError(
            f"the hub did not give {described} ({type(error).__name__}: {first_line(error)}): "
            f"{INSTEAD}"
        ) from error
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _named(value: Any, feature: Any) -> Any:
    """`value` with names in place of class numbers, also in lists."""
    if hasattr(feature, "int2str"):
        return None if value is None or value < 0 else feature.int2str(value)
    if isinstance(value, list) and hasattr(getattr(feature, "feature", None), "int2str"):
        return [_named(part, feature.feature) for part in value]
    return value


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Turn off progress bars, and the client's log of failed connections, inside the block."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
