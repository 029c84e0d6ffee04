"""Models from folders and packages, their digests, and messages for what is not there."""

import importlib.util
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pins.errors import ModelError
from pins.models import pretrained
from pins.models.heads import CAUSAL, CLASSIFICATION, SEQ2SEQ
from pins.models.parameters import prunable_parameters
from pins.models.pretrained import DEMO_MODEL, DEMO_PACKAGE, Pretrained, load_model, locate
from pins.utils.io import sha256
from tests.pins.networks import WORDS, save_tiny_bert, tiny, tiny_batch

LABELS = ("no", "yes", "maybe")

needs_demo_model = pytest.mark.skipif(
    importlib.util.find_spec(DEMO_PACKAGE) is None,
    reason=f"the package {DEMO_PACKAGE} is not installed",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny BERT, not to be changed."""
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tiny BERT, to be changed."""
    return save_tiny_bert(tmp_path / "bert")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's client told not to connect, with an empty cache: its own settings."""
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_a_folder_is_its_own_location(saved: Path) -> None:
    assert locate(str(saved)) == saved


def test_a_classifier_on_a_pretrained_encoder(saved: Path) -> None:
    classifier = load_model(str(saved), (CLASSIFICATION,), LABELS, seed=0)
    model: Any = classifier.model
    assert classifier.folder == saved
    assert model.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    assert model.config.label2id == {"no": 0, "yes": 1, "maybe": 2}
    assert model(**tiny_batch()).logits.shape == (2, 3)
    weights = load_file(saved / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(model.bert.get_parameter(name), weights[name])
    encoded = classifier.tokenizer(["the mask keeps k weights"], truncation=True, max_length=4)
    assert encoded["input_ids"] == [[2, 5, 6, 3]]
    assert len(prunable_parameters(model).parameters) == 12


@pytest.mark.parametrize("stale", ["regression", "multi_label_classification"])
def test_a_classifier_is_configured_for_its_task_not_for_an_earlier_one(
    folder: Path, stale: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "problem_type": stale}))
    model: Any = load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0).model
    assert model.config.problem_type == "single_label_classification"
    batch = tiny_batch()
    own = torch.nn.functional.cross_entropy(model(**batch).logits, batch["labels"])
    torch.testing.assert_close(model(**batch).loss, own)


def test_a_model_returns_what_heads_read_whatever_it_was_saved_for(
    folder: Path, tmp_path: Path
) -> None:
    other = {
        "return_dict": False, "output_attentions": True, "output_hidden_states": True,
        "chunk_size_feed_forward": 3,
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **other}))
    found = load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)
    assert found.model(**tiny_batch()).keys() == {"loss", "logits"}
    found.save(tmp_path / "saved")
    again: Any = load_model(str(tmp_path / "saved"), (CLASSIFICATION,), LABELS, seed=0).model
    assert torch.equal(again(**tiny_batch()).logits, found.model(**tiny_batch()).logits)


def save_with_words(model: Any, folder: Path) -> Path:
    """A tiny model of another family, with the tokenizer of the tiny BERT."""
    save_tiny_bert(folder)
    model.save_pretrained(folder)
    return folder


def test_a_model_that_sees_what_it_predicts_is_no_causal_one(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": len(WORDS), "d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 16}
    model = transformers.XLNetLMHeadModel(transformers.XLNetConfig(**sizes))
    xlnet = save_with_words(model, tmp_path / "xlnet")
    with pytest.raises(ModelError, match="XLNetLMHeadModel sees the tokens that it predicts"):
        load_model(str(xlnet), (CAUSAL,), seed=0)
    gpt2 = save_with_words(tiny("GPT2", "LMHeadModel", eos_token_id=None), tmp_path / "gpt2")
    assert load_model(str(gpt2), (CAUSAL,), seed=0).head is CAUSAL


@pytest.mark.parametrize("pad", [None, "[ADDED]"])
def test_padding_needs_no_token_of_its_own_and_no_vector(tmp_path: Path, pad: str | None) -> None:
    folder = save_with_words(tiny("Llama", "ForCausalLM", num_key_value_heads=2), tmp_path / "m")
    transformers = pytest.importorskip("transformers")
    file = folder / "tokenizer.json"
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token=pad)
    tokenizer.save_pretrained(folder)
    loaded = load_model(str(folder), (CAUSAL, CLASSIFICATION), seed=0)
    model: Any = loaded.model
    assert len(tokenizer) == model.config.vocab_size + (pad is not None)
    assert 0 <= loaded.tokenizer.pad_token_id < model.config.vocab_size
    assert 0 <= model.config.pad_token_id < model.config.vocab_size
    batch = loaded.tokenizer(["the mask", "the"], padding=True, return_tensors="pt")
    assert model(input_ids=batch["input_ids"]).logits.isfinite().all()


def test_the_head_is_drawn_from_the_seed(saved: Path) -> None:
    heads = []
    for seed in (0, 0, 1):
        model: Any = load_model(str(saved), (CLASSIFICATION,), LABELS, seed=seed).model
        heads.append(model.classifier.weight)
        torch.rand(3)  # what was drawn before does not matter
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_saved_classifier_is_loaded_again_with_its_head(saved: Path, tmp_path: Path) -> None:
    first = load_model(str(saved), (CLASSIFICATION,), LABELS, seed=0)
    first.save(tmp_path / "again")
    second: Any = load_model(str(tmp_path / "again"), (CLASSIFICATION,), LABELS, seed=1)
    model: Any = first.model
    assert torch.equal(second.model.classifier.weight, model.classifier.weight)
    assert second.tokenizer(["mask"])["input_ids"] == first.tokenizer(["mask"])["input_ids"]
    assert not list((tmp_path / "again").glob("*.bin"))


def test_loading_leaves_what_transformers_prints_as_it_was(saved: Path) -> None:
    transformers = pytest.importorskip("transformers")
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    load_model(str(saved), (CLASSIFICATION,), LABELS, seed=0)
    assert transformers.logging.get_verbosity() == verbosity
    assert transformers.logging.is_progress_bar_enabled() == bars


def test_the_digest_of_a_known_model_is_checked(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = sha256(saved / "model.safetensors")
    monkeypatch.setitem(dict_of_digests(), str(saved), digest)
    assert locate(str(saved)) == saved
    monkeypatch.setitem(dict_of_digests(), str(saved), "0" * 64)
    with pytest.raises(
        ModelError,
        match=rf"has SHA-256 {digest}, .* has {'0' * 64}: it is another or a damaged file; install",
    ):
        locate(str(saved))
    with pytest.raises(ModelError, match="it is another or a damaged file"):
        load_model(str(saved), (CLASSIFICATION,), LABELS, seed=0)


def dict_of_digests() -> dict[str, str]:
    return pretrained.WEIGHTS_SHA256


def test_a_folder_without_safetensors_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"bert holds no model\.safetensors, but 'pytorch_model\.bin': give .* "
    ):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


def test_weights_in_several_files_are_found_by_their_index(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.AutoModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="4KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert (folder / "model.safetensors.index.json").is_file()
    assert locate(str(folder)) == folder
    load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


def test_a_folder_without_a_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"model '.*bert' in .*bert does not load: \S"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


def test_a_folder_without_a_vocabulary_is_refused(folder: Path) -> None:
    # transformers makes a tokenizer for which every word is unknown
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


def test_a_configuration_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not a valid JSON"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


@pytest.mark.parametrize("kept", [-100, 5, 0])
def test_weights_that_are_not_whole_are_refused(folder: Path, kept: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


@pytest.mark.usefixtures("offline")
def test_a_model_that_is_nowhere_is_missed() -> None:
    message = (
        r"model 'nobody/nothing' is not a folder here, and the hub did not give it "
        r"\(\w+\): give a folder, or an id of the Hugging Face hub while online"
    )
    with pytest.raises(ModelError, match=message):
        locate("nobody/nothing")


@pytest.mark.usefixtures("offline")
def test_a_name_that_is_no_model_id_is_missed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder here, and the hub did not give it"):
        locate(str(tmp_path / "missing"))


@pytest.mark.usefixtures("offline")
def test_the_demo_model_that_is_nowhere_is_to_be_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pretrained, "DEMO_PACKAGE", "no_package_of_this_name")
    with pytest.raises(ModelError, match=r"\(\w+\): run pip install '\.\[demo\]' in a checkout"):
        locate(DEMO_MODEL)


def test_without_transformers_the_extra_is_named(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as Python marks what is not there
    with pytest.raises(ModelError, match=r"transformers is not installed: run .*\[prune\]"):
        load_model(str(saved), (CLASSIFICATION,), LABELS, seed=0)


@pytest.mark.model
@needs_demo_model
def test_the_demo_model_is_the_one_that_its_digest_names() -> None:
    folder = locate(DEMO_MODEL)
    assert sha256(folder / "model.safetensors") == pretrained.WEIGHTS_SHA256[DEMO_MODEL]


@pytest.mark.model
@needs_demo_model
def test_the_demo_model_loads_and_has_six_layers_to_prune() -> None:
    pytest.importorskip("transformers")
    classifier = load_model(DEMO_MODEL, (CLASSIFICATION,), LABELS, seed=0)
    found = prunable_parameters(classifier.model)
    # six layers of 4 square matrices and two to and from the inner width
    assert found.total == 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert set(found.left_out.values()) >= {"pooler", "task head", "bias of Linear"}


def test_what_the_files_do_not_hold_is_named(saved: Path, tmp_path: Path) -> None:
    drawn = load_model(str(saved), labels=LABELS, seed=0)
    assert drawn.drawn == ("classifier.bias", "classifier.weight")
    drawn.save(tmp_path / "whole")
    assert load_model(str(tmp_path / "whole"), labels=LABELS, seed=0).drawn == ()
    # a head for two classes is none for three
    assert load_model(str(tmp_path / "whole"), labels=LABELS[:2], seed=0).drawn == drawn.drawn


ENDS: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
BART: dict[str, Any] = {
    "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "decoder_start_token_id": 2, **ENDS,
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "head", "changes", "positions"),
    [
        ("Bert", "ForSequenceClassification", {}, 20),
        ("DistilBert", "ForSequenceClassification", {}, 20),
        ("Roberta", "ForSequenceClassification", {"pad_token_id": 1}, 18),
        ("GPT2", "LMHeadModel", {"bos_token_id": None, "eos_token_id": None}, 20),
        ("OPT", "ForCausalLM", {"ffn_dim": 8, "word_embed_proj_dim": 8, **ENDS}, 20),
        ("Bart", "ForConditionalGeneration", BART, 20),
        (
            "T5",
            "ForConditionalGeneration",
            {"d_kv": 4, "d_ff": 16, "decoder_start_token_id": 0},
            None,
        ),
    ],
)
def test_a_row_of_as_many_tokens_as_positions_is_read_and_no_longer_one(
    family: str, head: str, changes: dict[str, Any], positions: int | None
) -> None:
    model: Any = tiny(family, head, **changes).eval()
    assert Pretrained(model, None, Path(), CLASSIFICATION).positions == positions

    def read(length: int) -> None:
        tokens = torch.full((1, length), 4)
        with torch.no_grad():
            model(input_ids=tokens, **({"labels": tokens} if "Conditional" in head else {}))

    read(positions or 60)
    if positions is not None:
        with pytest.raises((IndexError, RuntimeError)):
            read(positions + 1)


MODULE = "import pathlib\npathlib.Path({file!r}).write_text('run')\n"
OWN_CODE = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}


def save_with_code(folder: Path, **config: Any) -> Path:
    """A tiny BERT with code of its own; returns the file that it writes when it is run."""
    ran = folder.parent / "ran"
    edit(folder / "config.json", {"model_type": "own", "auto_map": OWN_CODE, **config})
    edit(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}},
    )
    (folder / "own.py").write_text(MODULE.format(file=str(ran)))
    return ran


def edit(file: Path, values: Mapping[str, Any]) -> None:
    """Set values of a JSON object."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_code_of_a_model_is_not_run_and_nobody_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, answers = save_with_code(folder), io.StringIO("yes\n" * 20)
    monkeypatch.setattr(sys, "stdin", answers)
    with pytest.raises(ModelError, match="needs code that comes with it, which PINS does not run"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)
    assert not ran.exists()
    assert answers.tell() == 0


def test_the_code_of_that_model_would_have_been_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the control: what the test above forbids does happen without the argument
    transformers = pytest.importorskip("transformers")
    ran = save_with_code(folder)
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(folder / "m"))
    with pytest.raises(AttributeError, match="Config"):
        transformers.AutoConfig.from_pretrained(folder)
    assert ran.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("transformers_weights", "other.safetensors"), ("attn_implementation", "owner/kernel")],
)
def test_a_configuration_names_no_other_weights_and_no_code(
    folder: Path, name: str, value: str
) -> None:
    edit(folder / "config.json", {name: value})
    with pytest.raises(ModelError, match=f"names '{value}' as {name}, .*: remove that line"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"hidden_size": "16"}),
        ("config.json", {"hidden_size": None}),
        ("config.json", {"hidden_size": float("nan")}),
        ("config.json", {"hidden_size": [16]}),
        ("config.json", {"num_attention_heads": 0}),
        ("config.json", {"hidden_act": {}}),
        ("config.json", {"model_type": ["bert"]}),
        ("config.json", {"id2label": [1]}),
        ("tokenizer_config.json", {"tokenizer_class": 3}),
        ("tokenizer_config.json", {"pad_token": ["x"]}),
        ("tokenizer.json", {"model": []}),
        ("tokenizer.json", {"added_tokens": 3}),
    ],
)
def test_values_of_another_type_are_one_line(
    folder: Path, file: str, values: Mapping[str, Any]
) -> None:
    edit(folder / file, values)
    with pytest.raises(ModelError, match=r"\A.*(does not load|config\.json).*\Z"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["[]", "null", "3", "9" * 5000, "[" * 100_000, "\0", ""])
def test_files_that_hold_something_else_are_one_line(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(ModelError, match=r"\A.*\Z"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_named_as_such(folder: Path, file: str) -> None:
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ModelError, match=f"{file} is a Git LFS pointer: run git lfs pull"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


def test_a_tokenizer_with_more_tokens_than_the_model_has_vectors_is_refused(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["one", "more"])
    tokenizer.save_pretrained(folder)
    known = len(tokenizer) - 2
    message = f"the token '(one|more)' has the number .*, BertFor.* has vectors for {known} "
    with pytest.raises(ModelError, match=message):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


def test_a_special_token_that_no_row_has_needs_no_vector(folder: Path) -> None:
    # the tokenizer of facebook/bart-large-cnn has one for masks, the model no vector for it
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    tokenizer.save_pretrained(folder)
    load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)
    tokenizer.add_special_tokens({"cls_token": "<cls>"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="the token '<cls>' has the number"):
        load_model(str(folder), (CLASSIFICATION,), LABELS, seed=0)


def save_byt5(folder: Path, **config: Any) -> Path:
    """A tiny T5 with the tokenizer of ByT5, which has no file but its configuration."""
    transformers = pytest.importorskip("transformers")
    transformers.ByT5Tokenizer().save_pretrained(folder)
    small = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    settings = transformers.T5Config(vocab_size=384, **small, **config)
    transformers.T5ForConditionalGeneration(settings).save_pretrained(folder)
    return folder


def test_a_tokenizer_of_bytes_needs_no_vocabulary(tmp_path: Path) -> None:
    folder = save_byt5(tmp_path / "byt5", decoder_start_token_id=0)
    assert load_model(str(folder), (SEQ2SEQ,), seed=0).tokenizer("ü")["input_ids"] == [198, 191, 1]
    (folder / "tokenizer_config.json").unlink()  # transformers would make one that knows no word
    with pytest.raises(ModelError, match="holds no tokenizer: save it beside the model"):
        load_model(str(folder), (SEQ2SEQ,), seed=0)


def test_a_tokenizer_of_characters_needs_no_vocabulary(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CanineConfig(**small, intermediate_size=8, max_position_embeddings=64)
    transformers.CanineForSequenceClassification(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    loaded = load_model(str(tmp_path), (CLASSIFICATION,), LABELS, seed=0)
    assert loaded.tokenizer("ü")["input_ids"] == [57344, 252, 57345]


def test_a_decoder_that_does_not_know_its_first_token_is_refused(tmp_path: Path) -> None:
    folder = save_byt5(tmp_path / "byt5", decoder_start_token_id=None)
    with pytest.raises(ModelError, match=r"decoder_start_token_id has to be defined"):
        load_model(str(folder), (SEQ2SEQ,), seed=0)
    edit(folder / "config.json", {"decoder_start_token_id": 384})
    with pytest.raises(ModelError, match="'decoder_start_token_id' has the number 384, T5For"):
        load_model(str(folder), (SEQ2SEQ,), seed=0)


@pytest.mark.usefixtures("offline")
def test_the_hub_is_asked_for_what_the_tokenizer_needs_not_for_names(tmp_path: Path) -> None:
    commit = "0" * 40
    place = tmp_path / "cache" / "models--owner--bytes"
    save_byt5(place / "snapshots" / commit, decoder_start_token_id=0)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    assert load_model("owner/bytes", (SEQ2SEQ,), seed=0).folder.name == commit
