"""The model card: front matter that the hub reads, the run's numbers, no path of the machine."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pins import masks as masks_module
from pins.errors import ModelError
from pins.models.heads import HEADS
from pins.models.parameters import prunable_parameters
from pins.runs.costs import Costs, Disk, Layer, Weights, count_weights
from pins.runs.latency import ZEROS, Latency, Timing
from pins.runs.model_card import PIPELINES, model_card
from tests.pins.networks import save_tiny_bert, tiny, tiny_batch

hub = pytest.importorskip("huggingface_hub")
yaml = pytest.importorskip("yaml")

LATENCY = Latency(
    device="cpu",
    threads=2,
    dtype="float32",
    batch={"input_ids": (16, 128)},
    runs=11,
    dense=Timing(9.9, 10, 10.1),
    pruned=Timing(9.9, 10, 10.1),
    csr=Timing(4.9, 5, 5.1),
)
COSTS = Costs(
    Weights(2000, (Layer("a.weight", 800, 30, 30), Layer("b.weight", 200, 0, 0))),
    Disk(8000, 1000, 4000, 900),
    LATENCY,
)


def facts(**changes: Any) -> dict[str, Any]:
    """The facts of a run, as JSON."""
    whole = {
        "settings": {
            "model": "google-bert/bert-base-uncased",
            "task": "rte",
            "sparsity": 0.97,
            "criterion": "pins",
            "schedule": "cubic",
            "steps": 3120,
            "self_regularization": True,
            "seed": 1,
        },
        "head": "classification",
        "costs": COSTS.as_json(),
        "scores": {
            "split": "validation",
            "rows": 277,
            "dense": {"accuracy": 0.70758, "matthews": 0.41},
            "sparse": {"accuracy": 0.69675, "matthews": 0.4},
        },
        "data": {"rte/train.tsv": "d" * 64},
        "weights_sha256": {"model.safetensors": "e" * 64},
        "versions": {"pins": "0.1.0", "torch": "2.13.0"},
        "certificate": {
            "file": "certificate.json",
            "sentence": "the mask keeps 30 of 1,000 weights and is the only optimum",
        },
        "mask": "masks.safetensors",
        "packed": "packed.safetensors",
    }
    return dict(json.loads(json.dumps({**whole, **changes})))


def test_the_hub_reads_the_front_matter() -> None:
    card = hub.ModelCard(model_card(facts()))
    assert card.data.base_model == "google-bert/bert-base-uncased"
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.metrics == ["accuracy", "matthews_correlation"]
    assert card.data.model_name == "bert-base-uncased-rte-pruned-97"
    assert {"pins", "pruning"} <= set(card.data.tags)
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results["accuracy"].metric_value == 0.69675  # the pruned model's, in full
    assert results["accuracy"].dataset_name == "rte"
    assert results["accuracy"].dataset_split == "validation"
    assert results["matthews_correlation"].metric_value == 0.4
    assert card.text.lstrip().startswith("# bert-base-uncased-rte-pruned-97\n")


def test_all_settings_are_named_but_for_paths_of_the_machine() -> None:
    settings = facts()["settings"] | {
        "weight_decay": 0.01,
        "without_quirks": ["biases", "calendar"],
        "teacher": "/home/me/expert",
        "data": "/home/me/data",
        "device": "cuda:3",
        "include": None,
    }
    text = model_card(facts(settings=settings))
    for line in ("- weight decay: 0.01", "- without quirks: biases, calendar", "- teacher: expert"):
        assert f"\n{line}\n" in text
    assert not re.search("home|cuda|include", text)


def test_a_sample_is_called_one() -> None:
    scores = facts()["scores"] | {"rows": 40, "sample": {"rows": 40, "of": 277}}
    assert "On validation, 40 rows, a sample of 40 of 277." in model_card(facts(scores=scores))


def test_a_teacher_that_is_sparse_is_not_called_dense() -> None:
    scores = facts()["scores"]
    scores["teacher"] = scores.pop("dense")
    text = model_card(facts(scores=scores))
    assert "| metric | pruned | its first teacher, which is sparse |" in text
    assert "without pruning" not in text


def test_a_decoder_is_prompted_as_it_was_trained() -> None:
    text = model_card(facts(head="causal", prompt="{source}<|end|>"))
    assert "It writes after the prompt `{source}<|end|>`" in text
    assert "prompt" not in model_card(facts())


def test_the_front_matter_is_yaml_at_the_top() -> None:
    text = model_card(facts())
    found = re.match(r"---\n(.*?)\n---\n\n# ", text, flags=re.S)
    assert found is not None
    front = yaml.safe_load(found.group(1))
    assert front["model-index"][0]["results"][0]["dataset"]["type"] == "rte"


def test_the_numbers_of_the_run_stand_in_it() -> None:
    text = model_card(facts())
    for words in (
        "30 of 1,000 prunable weights are kept, 970 are zero, a sparsity of 97.00 % (48.50 % of "
        "all 2,000 parameters). 97 % was asked for.",
        "The mask keeps 30 of 1,000 weights and is the only optimum.",
        "The proof: `certificate.json`.",
        "On validation, 277 rows.",
        "| metric | pruned | dense, fine-tuned without pruning |",
        "| accuracy | 0.6967 | 0.7076 |",
        "- base model: `bert-base-uncased`",
        f"- its `model.safetensors`: SHA-256 `{'e' * 64}`",
        f"- data `train.tsv`: SHA-256 `{'d' * 64}`",
        "- criterion: pins",
        "- schedule: cubic",
        "- self-regularisation: yes",
        "- seed: 1",
        "- pins 0.1.0, torch 2.13.0",
        "| layers all zero | 1 | b.weight |",
        "| packed file, bytes | 1,000 | 900 zipped; dense / packed = 8.00 |",
        "model = AutoModelForSequenceClassification.from_pretrained(",
        "PruningCallback(keep_zeros=True)",
        "pins check certificate.json",
        "the linear model of the scores",
        f"No speed-up is promised. As dense matrices: no speed-up: {ZEROS} (ratio 1.00",
        "As sparse matrices (CSR), on the device named: 2.00 times as fast as dense",
    ):
        assert words in text, words


def test_without_certificate_dense_scores_and_csr_their_lines_are_missing() -> None:
    whole = facts(certificate=None)
    del whole["scores"]["dense"]
    whole["costs"]["latency"]["csr"] = None
    whole["costs"]["latency"]["no_csr"] = "a | b"
    text = model_card(whole)
    assert "| metric | pruned |\n| --- | --- |\n| accuracy | 0.6967 |" in text
    for words in ("pins check", "The proof", "dense, fine-tuned", "As sparse matrices", "None"):
        assert words in model_card(facts()) or words == "None"
        assert words not in text
    assert hub.ModelCard(text).data.eval_results[0].metric_type == "accuracy"


@pytest.mark.parametrize(
    "model", ["/home/someone/models/bert", "../someone/bert/", r"C:\Users\someone\bert", "./bert"]
)
def test_no_path_gets_in(model: str) -> None:
    whole = facts(
        certificate={"file": "/home/someone/out/certificate.json", "sentence": "it is optimal."},
        mask="/home/someone/out/masks.safetensors",
        packed=r"C:\Users\someone\packed.safetensors",
        data={"/home/someone/data/train.tsv": "d" * 64},
        weights_sha256={"/home/someone/model.safetensors": "e" * 64},
    )
    whole["settings"].update(model=model, data="/home/someone/data", teacher="/home/someone/t")
    text = model_card(whole)
    assert "someone" not in text
    assert "It is optimal. The proof: `certificate.json`." in text
    assert "`bert`, fine-tuned on `rte`" in text
    assert hub.ModelCard(text).data.base_model is None


def test_a_folder_that_reads_like_an_id_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = facts()
    whole["settings"]["model"] = "someone/bert"
    assert hub.ModelCard(model_card(whole)).data.base_model == "someone/bert"
    (tmp_path / "someone" / "bert").mkdir(parents=True)
    assert "someone" not in model_card(whole)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_its_task_on_the_hub_and_its_class(head: str) -> None:
    text = model_card(facts(head=head))
    assert hub.ModelCard(text).data.pipeline_tag == PIPELINES[head]
    assert f"model = {HEADS[head].auto_class}.from_pretrained(" in text


def test_tables_have_as_many_cells_in_each_line() -> None:
    whole = facts()
    whole["costs"]["latency"]["csr"] = None
    whole["costs"]["latency"]["no_csr"] = "a | b"
    lines = [line for line in model_card(whole).splitlines() if line.startswith("| ")]
    assert any(r"a \| b" in line for line in lines)
    assert {len(re.split(r"(?<!\\)\|", line)) - 2 for line in lines} == {3}


def test_text_that_yaml_or_markdown_could_read_stays_text() -> None:
    whole = facts()
    whole["settings"]["task"] = "yes: {no}"
    card = hub.ModelCard(model_card(whole))
    assert card.data.eval_results[0].dataset_name == "yes: {no}"


def test_the_lines_for_loading_load_the_model_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_bert(tmp_path)  # for its tokenizer
    model: Any = tiny("Bert", "ForSequenceClassification")
    parameters = prunable_parameters(model).parameters
    masks: dict[str, Tensor] = {n: torch.rand(p.shape) > 0.5 for n, p in parameters.items()}
    masks_module.apply(masks, parameters)
    model.save_pretrained(tmp_path)
    costs = Costs(count_weights(model, masks), COSTS.disk, COSTS.latency)
    text = model_card(facts(costs=costs.as_json()))
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    hub.ModelCard.load(tmp_path / "README.md")
    monkeypatch.chdir(tmp_path)
    loading, fine_tuning = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    names: dict[str, Any] = {}
    exec(compile(loading, "README.md", "exec"), names)  # noqa: S102 (our own lines)
    assert torch.equal(names["model"](**tiny_batch()).logits, model.eval()(**tiny_batch()).logits)
    assert names["tokenizer"]("the mask")["input_ids"]
    compile(fine_tuning, "README.md", "exec")


def test_without_the_hubs_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as Python marks what is not there
    with pytest.raises(ModelError, match=r"huggingface_hub is not installed: run .*\[prune\]"):
        model_card(facts())


def test_names_are_nothing_but_names_in_markdown() -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("js-default", {"html": True})
    name = "a`</code><script>x</script>|[b](c) ``*d*"
    hostile = facts(
        settings=facts()["settings"] | {"model": f"/home/{name}", "criterion": "<b>`|[x](y)"},
        data={f"{name}.tsv": "d" * 64},
        weights_sha256={f"{name}.safetensors": "e" * 64},
    )
    hostile["scores"] |= {"split": "<i>[test](u)*"}
    shown = markdown.render(model_card(hostile).split("---", 2)[2])
    for tag in ("<script", "<b>", "<i>", "<em>", 'href="c"', 'href="y"', 'href="u"'):
        assert tag not in shown, shown
    assert "pruned-97</h1>" in shown
    # The negative control: a name between plain backticks leaves them.
    assert "<script" in markdown.render(f"`{name}`")
