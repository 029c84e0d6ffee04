"""Data sets in the layout of the hub, in a folder, for tests without a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest


def save_hub(
    folder: Path,
    splits: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    classes: Mapping[str, Sequence[str]],
) -> Path:
    """Rows by (config, split), as Parquet files that a README.md lists, as on the hub.

    Args:
        folder: to write to.
        splits: the rows; those of a class have its number.
        classes: names of the classes in these columns (or in the lists there).
    """
    datasets = pytest.importorskip("datasets")
    readme = ["---", "configs:"]
    for config in dict.fromkeys(config for config, _ in splits):
        readme += [f"- config_name: {config}", "  data_files:"]
        for split in (split for of, split in splits if of == config):
            path = f"{config}/{split}.parquet"
            readme += [f"  - split: {split}", f"    path: {path}"]
            table = datasets.Dataset.from_list([dict(row) for row in splits[config, split]])
            features = table.features.copy()
            for column, names in classes.items():
                label = datasets.ClassLabel(names=list(names))
                listed = hasattr(features[column], "feature")
                features[column] = datasets.List(label) if listed else label
            (folder / config).mkdir(parents=True, exist_ok=True)
            table.cast(features).to_parquet(folder / path)
    (folder / "README.md").write_text("\n".join([*readme, "---", ""]))
    return folder
