"""Which split a file or a part of a data set is, by its name."""

import pytest

from pins.tasks.readers.sources import split_of

SPLITS = {
    "validation": (
        "dev.tsv", "dev-v1.1.json", "devset.csv", "devel-fixed.no-ol.csv", "valid.txt", "esp.testa",
        "emerging.dev.conll", "validation", "validation_matched", "dart-v1.1.1-full-dev.json",
        "dev_matched.tsv",
    ),
    "test": (
        "test.json", "testset_w_refs.csv", "test-fixed.csv", "esp.testb", "eng.testb",
        "emerging.test.annotated", "wiki.test.raw", "test", "device.test.txt",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("split", "name"), [(split, name) for split, names in SPLITS.items() for name in names]
)
def test_the_split_of_a_name(split: str, name: str) -> None:
    assert split_of(name) == split
