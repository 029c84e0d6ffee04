"""The reader of the layout `sparse-bitmask` that compressed-tensors had, where it is installed."""

from collections.abc import Mapping
from typing import Any

import pytest

READER = "compressed_tensors.compressors.sparse_compressors"
REASON = "no compressed-tensors is installed that has the reader, as 0.9 to 0.14 have"


def model_compressor(config: Mapping[str, Any]) -> Any:
    """What reads the weights of a model with this configuration; without it the test is skipped."""
    pytest.importorskip(READER, reason=REASON)
    package = pytest.importorskip("compressed_tensors.compressors")
    return package.ModelCompressor.from_compression_config(config["quantization_config"])
