"""A model's digest has the files that it is loaded from, and no others."""

from pathlib import Path

import pytest

from pins.errors import FileError
from pins.models.digests import model_digest
from pins.utils.io import sha256
from tests.tiny_model import save_tiny_bert

pytest.importorskip("transformers", reason="models are saved by transformers")


def test_weights_configuration_and_tokenizer_are_digested(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path)
    files = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    for name in (
        "masks.safetensors", "packed.safetensors", "run.json", "certificate.json", "README.md",
        "trainer_state.json",
    ):  # fmt: skip
        (folder / name).write_text("of a run")
    assert model_digest(folder) == {name: sha256(folder / name) for name in files}
    (folder / "vocab.txt").write_text("the")
    (folder / "vocab").mkdir()
    assert model_digest(folder).keys() == {*files, "vocab.txt"}


def test_shards_are_those_of_the_index(tmp_path: Path) -> None:
    import transformers

    save_tiny_bert(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    (tmp_path / "masks.safetensors").write_text("of a run")
    shards = sorted(each.name for each in tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert [name for name in model_digest(tmp_path) if name.endswith("tensors")] == shards
    for each in tmp_path.glob("model*"):
        each.unlink()
    with pytest.raises(FileError, match="holds no model"):
        model_digest(tmp_path)
