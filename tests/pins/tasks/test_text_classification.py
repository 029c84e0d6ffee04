"""Texts and pairs, classes and scores: as encoded, and as judged by a computation written out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pins.models.batches import Encoded
from pins.models.heads import CLASSIFICATION, REGRESSION
from pins.models.pretrained import Pretrained, load_model
from pins.tasks.task import Recipe
from pins.tasks.text_classification import Example, TextClassification
from tests.tiny_model import save_tiny_bert

pytest.importorskip("transformers")

RECIPE = Recipe(epochs=1, batch_size=2, learning_rate=1e-3, max_length=8)
TEXTS = ("the class of a function", "in", "returns value", "module string list object and the of a")
ROWS = tuple(Example(text, label) for text, label in zip(TEXTS, (1, 0, 1, 0), strict=True))


def task(rows: Sequence[Example], **changes: Any) -> TextClassification:
    fields = {
        "name": "test",
        "question": "?",
        "labels": ("no", "yes"),
        "metrics": ("accuracy", "f1", "matthews"),
        **changes,
    }
    return TextClassification(train=rows, test=rows, recipe=RECIPE, **fields)


CLASSES = task(ROWS)
SCORES = task(
    [replace(row, label=score) for row, score in zip(ROWS, (1.5, 0.0, 5.0, 2.25), strict=True)],
    labels=(),
    metric="pearson",
    metrics=("pearson", "spearman"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def loaded(folder: Path, task: TextClassification) -> tuple[Pretrained, Encoded]:
    """A model with the head of the task, large enough to differ by row, and the encoded rows."""
    pretrained = load_model(str(folder), task.heads, task.labels, seed=0)
    model: Any = pretrained.model
    nn.init.normal_(model.classifier.weight, std=3.0)
    rows = task.encode(task.test, pretrained.tokenizer, 8, pretrained.head, train=False)
    return pretrained, rows


def logits(pretrained: Pretrained, texts: Sequence[str]) -> torch.Tensor:
    """One text at a time, without batches and padding."""
    model = pretrained.model.eval()
    with torch.no_grad():
        rows = [
            model(**pretrained.tokenizer(text, truncation=True, max_length=8, return_tensors="pt"))
            for text in texts
        ]
    return torch.cat([row.logits for row in rows])


def test_with_labels_it_is_a_classification_and_without_a_regression() -> None:
    assert CLASSES.heads == (CLASSIFICATION,)
    assert SCORES.heads == (REGRESSION,)


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_the_loss_is_that_of_the_head_whatever_the_configuration_says(
    folder: Path, problem: str
) -> None:
    pretrained, rows = loaded(folder, CLASSES)
    model: Any = pretrained.model
    right = CLASSES.evaluate(model, pretrained.tokenizer, rows, CLASSIFICATION, batch_size=2)
    model.config.problem_type = problem
    found = CLASSES.evaluate(model, pretrained.tokenizer, rows, CLASSIFICATION, batch_size=2)
    assert found == right
    own = cross_entropy(logits(pretrained, TEXTS), torch.tensor([1, 0, 1, 0]))
    assert found["loss"] == pytest.approx(own.item(), rel=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_on_the_side_of_the_tokenizer(folder: Path, side: str) -> None:
    pretrained = load_model(str(folder), seed=0)
    pretrained.tokenizer.padding_side = side
    rows = CLASSES.encode(ROWS, pretrained.tokenizer, 8, CLASSIFICATION, train=True)
    shortest = int(rows.batch(range(4))["attention_mask"].sum(1).argmin())
    mask = rows.batch(range(4))["attention_mask"][shortest].tolist()
    assert 0 in mask
    assert mask == sorted(mask, reverse=side == "right")


def test_texts_without_a_token_are_read_as_padding(folder: Path) -> None:
    task_of_nothing = task([Example("", 0), Example("", 1)])
    pretrained, rows = loaded(folder, task_of_nothing)
    batch = rows.batch([0, 1])
    assert batch["input_ids"].tolist() == [[pretrained.tokenizer.pad_token_id]] * 2
    assert batch["attention_mask"].tolist() == [[1], [1]]
    scores = task_of_nothing.evaluate(
        pretrained.model, pretrained.tokenizer, rows, CLASSIFICATION, batch_size=2
    )
    assert scores["accuracy"] == 0.5


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_classes_are_judged_as_written_out(folder: Path, batch_size: int) -> None:
    pretrained, rows = loaded(folder, CLASSES)
    scores = CLASSES.evaluate(
        pretrained.model, pretrained.tokenizer, rows, pretrained.head, batch_size=batch_size
    )
    by_hand = logits(pretrained, TEXTS)
    targets = torch.tensor([row.label for row in ROWS], dtype=torch.int64)
    predictions = by_hand.argmax(-1)
    assert set(scores) == {"accuracy", "f1", "matthews", "loss"}
    assert scores["accuracy"] == pytest.approx((predictions == targets).double().mean().item())
    assert set(predictions.tolist()) == {0, 1}, "a model that says one thing tells nothing"
    both = int((predictions & targets).sum())
    assert scores["f1"] == pytest.approx(2 * both / int(predictions.sum() + targets.sum()))
    loss = nn.functional.cross_entropy(by_hand, targets).item()
    assert scores["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_scores_are_judged_as_written_out(folder: Path, batch_size: int) -> None:
    pretrained, rows = loaded(folder, SCORES)
    scores = SCORES.evaluate(
        pretrained.model, pretrained.tokenizer, rows, pretrained.head, batch_size=batch_size
    )
    by_hand = logits(pretrained, TEXTS).squeeze(-1)
    targets = torch.tensor([row.label for row in SCORES.test])
    expected = torch.corrcoef(torch.stack([by_hand, targets]))[0, 1].item()
    assert set(scores) == {"pearson", "spearman", "loss"}
    assert scores["pearson"] == pytest.approx(expected, abs=1e-5)
    loss = nn.functional.mse_loss(by_hand, targets).item()
    assert scores["loss"] == pytest.approx(loss, rel=1e-5)


def test_rows_keep_their_labels_whatever_their_order(folder: Path) -> None:
    pretrained, rows = loaded(folder, CLASSES)
    found = [
        task.evaluate(
            pretrained.model, pretrained.tokenizer, encoded, pretrained.head, batch_size=3
        )
        for task, encoded in [
            (CLASSES, rows),
            (CLASSES, rows.take([2, 0, 3, 1])),
            (CLASSES, rows.take([0, 1])),
        ]
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0] != pytest.approx(found[2], rel=1e-5)  # other rows, another loss


def test_evaluation_leaves_the_model_in_training_and_without_gradients(folder: Path) -> None:
    pretrained, rows = loaded(folder, CLASSES)
    pretrained.model.train()
    first, second = (
        CLASSES.evaluate(
            pretrained.model, pretrained.tokenizer, rows, pretrained.head, batch_size=2
        )
        for _ in range(2)
    )
    assert first == second  # no dropout
    assert pretrained.model.training
    assert all(parameter.grad is None for parameter in pretrained.model.parameters())


def test_a_score_is_a_float_also_where_all_are_whole(folder: Path) -> None:
    whole = task([Example("the", 3), Example("a", 5)], labels=(), metrics=("pearson",))
    pretrained, rows = loaded(folder, whole)
    assert rows.batch([0, 1])["labels"].dtype == torch.float32
    whole.evaluate(pretrained.model, pretrained.tokenizer, rows, pretrained.head, batch_size=2)
    classes = CLASSES.encode(ROWS, pretrained.tokenizer, 8, CLASSIFICATION, train=True)
    assert classes.batch([0, 1])["labels"].dtype == torch.int64


def test_a_pair_is_cut_at_its_longer_text(folder: Path) -> None:
    pairs = task([Example("the a of and to in", 0, "list"), Example("the", 1, "value value")])
    pretrained, _ = loaded(folder, CLASSES)
    rows = pairs.encode(pairs.train, pretrained.tokenizer, 4, CLASSIFICATION, train=True)
    words = [
        pretrained.tokenizer.convert_ids_to_tokens(list(feature["input_ids"]))  # type: ignore[arg-type]
        for feature in rows.features
    ]
    assert words == [["the", "a", "of", "list"], ["the", "value", "value"]]
