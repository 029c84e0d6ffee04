"""Heads: one row for each prediction that has a target, whatever the padding, as models have it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.errors import ModelError
from pins.models.batches import IGNORED, Batch
from pins.models.heads import (
    CAUSAL,
    CLASSIFICATION,
    HEADS,
    REGRESSION,
    SEQ2SEQ,
    SPAN,
    TARGETS,
    TOKENS,
    Distributions,
    Head,
    Values,
    find_head,
)
from tests.pins.headed import HEADED, head_of, padded
from tests.pins.networks import BagClassifier, examples, tiny

SEQUENCE_HEADS = (TOKENS, CAUSAL, SEQ2SEQ)


def mean_loss(head: Head, output: Any, batch: Batch) -> Tensor:
    rows = head.rows(output, batch)
    if isinstance(rows, Values):
        return nn.functional.mse_loss(rows.values, rows.targets)
    return nn.functional.cross_entropy(rows.logits, rows.targets)


def distributions(head: Head, output: Any, batch: Batch) -> Distributions:
    rows = head.rows(output, batch)
    assert isinstance(rows, Distributions)
    return rows


@pytest.mark.parametrize("name", HEADED)
def test_the_mean_over_the_rows_is_the_loss_of_transformers(name: str) -> None:
    headed, head = HEADED[name], head_of(name)
    model, batch = headed.model(), headed.batch()
    if head is SPAN:
        # transformers predicts positions in the padding as well
        batch = {key: tensor[1:2] for key, tensor in batch.items()}
    output = model(**batch)
    torch.testing.assert_close(mean_loss(head, output, batch), output.loss)
    assert find_head(model) is head


def test_the_loss_of_transformers_counts_the_padding_of_spans() -> None:
    headed = HEADED[SPAN.name]
    batch = headed.batch()
    output = headed.model()(**batch)
    assert not torch.isclose(mean_loss(SPAN, output, batch), output.loss)


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("columns", [1, 4])
def test_padding_changes_no_row(name: str, columns: int) -> None:
    headed, head = HEADED[name], head_of(name)
    model, batch = headed.model(), headed.batch()
    wider = padded(batch, columns)
    before, after = head.rows(model(**batch), batch), head.rows(model(**wider), wider)
    assert torch.equal(before.targets, after.targets)
    assert head.count(batch) == head.count(wider) == len(before.targets)
    if isinstance(before, Values) or isinstance(after, Values):
        assert isinstance(before, Values)
        assert isinstance(after, Values)
        torch.testing.assert_close(before.values, after.values)
    else:
        possible = after.logits[:, : before.logits.shape[1]]
        torch.testing.assert_close(before.logits, possible)
        assert bool((after.logits[:, before.logits.shape[1] :] == -torch.inf).all())


@pytest.mark.parametrize("name", HEADED)
def test_there_is_a_row_for_each_target(name: str) -> None:
    headed, head = HEADED[name], head_of(name)
    batch = headed.batch()
    rows = head.rows(headed.model()(**batch), batch)
    expected = {CLASSIFICATION: 3, REGRESSION: 3, TOKENS: 10, SPAN: 6, CAUSAL: 7, SEQ2SEQ: 10}
    assert head.count(batch) == len(rows.targets) == expected[head]


@given(st.data())
def test_rows_of_sequences_are_those_written_out(data: st.DataObject) -> None:
    head = data.draw(st.sampled_from(SEQUENCE_HEADS))
    texts, length, outcomes = [data.draw(st.integers(1, 4)) for _ in range(3)]
    label = st.one_of(st.just(IGNORED), st.integers(0, outcomes - 1))
    labels = [[data.draw(label) for _ in range(length)] for _ in range(texts)]
    logits = torch.randn(texts, length, outcomes)
    shift = int(head is CAUSAL)
    expected = [
        (logits[text, at - shift].tolist(), labels[text][at])
        for text in range(texts)
        for at in range(shift, length)
        if labels[text][at] != IGNORED
    ]
    batch = {"labels": torch.tensor(labels)}
    rows = distributions(head, SimpleNamespace(logits=logits), batch)
    assert list(zip(rows.logits.tolist(), rows.targets.tolist(), strict=True)) == expected
    assert head.count(batch) == len(expected)


@given(st.data())
def test_rows_of_spans_are_those_written_out(data: st.DataObject) -> None:
    texts, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5))
    position = st.integers(-2, length + 2)
    draws = [[data.draw(position) for _ in range(texts)] for _ in range(2)]
    masks = [[data.draw(st.booleans()) for _ in range(length)] for _ in range(texts)]
    start, end = torch.randn(texts, length), torch.randn(texts, length)
    expected = []
    for logits, positions in ((start, draws[0]), (end, draws[1])):
        for text in range(texts):
            at, mask = positions[text], masks[text]
            if 0 <= at < length and mask[at]:
                row = zip(logits[text].tolist(), mask, strict=True)
                expected.append(([z if inside else -torch.inf for z, inside in row], at))
    batch = {
        "input_ids": torch.zeros(texts, length, dtype=torch.long),
        "attention_mask": torch.tensor(masks).long(),
        "start_positions": torch.tensor(draws[0]),
        "end_positions": torch.tensor(draws[1]),
    }
    rows = distributions(SPAN, SimpleNamespace(start_logits=start, end_logits=end), batch)
    assert list(zip(rows.logits.tolist(), rows.targets.tolist(), strict=True)) == expected
    assert SPAN.count(batch) == len(expected)


def test_a_span_that_ends_in_the_padding_makes_no_infinite_loss() -> None:
    headed = HEADED[SPAN.name]
    batch = headed.batch() | {"end_positions": torch.tensor([4, 4, 2])}  # of 4, 5 and 2 words
    rows = distributions(SPAN, headed.model()(**batch), batch)
    assert rows.targets.tolist() == [1, 0, 1, 4]
    assert bool(nn.functional.cross_entropy(rows.logits, rows.targets).isfinite())


def test_without_an_attention_mask_every_position_is_of_the_text() -> None:
    headed = HEADED[SPAN.name]
    batch = headed.batch()
    del batch["attention_mask"]
    rows = distributions(SPAN, headed.model()(**batch), batch)
    assert rows.logits.shape == (6, 5)
    assert bool(rows.logits.isfinite().all())


@pytest.mark.parametrize("head", [CLASSIFICATION, REGRESSION, SPAN])
def test_a_column_of_targets_is_a_row_of_them(head: Head) -> None:
    headed = HEADED[head.name]
    flat = headed.batch()
    column = flat | {name: flat[name].unsqueeze(1) for name in TARGETS if name in flat}
    output = headed.model()(**{k: v for k, v in flat.items() if k not in TARGETS})
    assert torch.equal(head.rows(output, flat).targets, head.rows(output, column).targets)
    torch.testing.assert_close(mean_loss(head, output, flat), mean_loss(head, output, column))
    assert head.count(column) == head.count(flat)


def test_texts_without_a_label_make_no_row() -> None:
    batch = {"labels": torch.tensor([1, IGNORED, 0], dtype=torch.int32)}
    logits = torch.arange(6.0).reshape(3, 2)
    rows = distributions(CLASSIFICATION, SimpleNamespace(logits=logits), batch)
    assert rows.logits.tolist() == [[0, 1], [4, 5]]
    assert rows.targets.dtype == torch.int64
    assert CLASSIFICATION.count(batch) == 2
    # but for numbers it is a number
    assert REGRESSION.count({"labels": torch.tensor([float(IGNORED)])}) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_right_numbers_are_not_rounded_to_16_bits(dtype: torch.dtype) -> None:
    output = SimpleNamespace(logits=torch.zeros(1, 1, dtype=dtype))
    rows = REGRESSION.rows(output, {"labels": torch.tensor([4.8])})
    assert rows.targets.item() == torch.tensor(4.8).item()
    assert torch.tensor(4.8).bfloat16().item() == 4.8125
    assert REGRESSION.rows(output, {"labels": torch.tensor([4])}).targets.tolist() == [4]


@pytest.mark.parametrize("head", [CLASSIFICATION, TOKENS, CAUSAL, SEQ2SEQ])
def test_targets_that_number_no_outcome_are_refused(head: Head) -> None:
    batch = {"labels": torch.ones(2, 3)}
    message = (
        rf"head '{head.name}' was given torch\.float32 labels of shape \(2, 3\): it predicts one "
        "of several outcomes, give their numbers"
    )
    with pytest.raises(ModelError, match=message):
        head.rows(SimpleNamespace(logits=torch.zeros(2, 3, 3)), batch)
    with pytest.raises(ModelError, match="give their numbers"):
        head.count(batch)


@pytest.mark.parametrize("name", HEADED)
def test_the_inputs_predict_the_same_and_no_loss_is_computed(name: str) -> None:
    headed, head = HEADED[name], head_of(name)
    model, batch = headed.model(), headed.batch()
    with_loss, without = model(**batch), model(**head.inputs(model, batch))
    assert with_loss.loss is not None
    assert without.loss is None
    first, second = head.rows(with_loss, batch), head.rows(without, batch)
    torch.testing.assert_close(vars(first), vars(second), rtol=0, atol=0)


def test_a_model_that_cannot_do_without_targets_gets_them() -> None:
    batch = examples().batch([0, 1])
    assert CLASSIFICATION.inputs(BagClassifier(), batch) == batch


def test_a_decoder_whose_inputs_only_it_can_make_gets_the_labels() -> None:
    headed = HEADED[SEQ2SEQ.name]
    model, batch = headed.model(), headed.batch()
    assert SEQ2SEQ.inputs(model, batch).keys() == {
        "input_ids", "attention_mask", "decoder_input_ids",
    }  # fmt: skip
    assert SEQ2SEQ.inputs(nn.Linear(1, 1), batch) == batch
    given = batch | {"decoder_input_ids": torch.zeros(3, 5, dtype=torch.long)}
    found = SEQ2SEQ.inputs(model, given)
    assert "labels" not in found
    assert found["decoder_input_ids"] is given["decoder_input_ids"]


@pytest.mark.parametrize(
    ("changes", "head"),
    [
        ({"num_labels": 2}, CLASSIFICATION),
        ({"num_labels": 1}, REGRESSION),
        ({"num_labels": 1, "problem_type": "regression"}, REGRESSION),
        ({"num_labels": 2, "problem_type": "single_label_classification"}, CLASSIFICATION),
    ],
)
def test_a_classifier_has_the_head_that_it_is_configured_for(
    changes: dict[str, Any], head: Head
) -> None:
    assert find_head(tiny("Bert", "ForSequenceClassification", **changes)) is head


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_several_classes_or_numbers_a_text_are_no_head(problem: str) -> None:
    model = tiny("Bert", "ForSequenceClassification", num_labels=3, problem_type=problem)
    message = (
        rf"BertForSequenceClassification is configured for {problem} with 3 labels: PINS has heads "
        "for one class a text and for one number a text"
    )
    with pytest.raises(ModelError, match=message):
        find_head(model)


def test_a_compiled_model_has_the_head_of_the_model() -> None:
    model = HEADED[TOKENS.name].model()
    compiled: Any = torch.compile(model, backend="eager")
    assert find_head(compiled) is TOKENS
    assert find_head(nn.DataParallel(model)) is TOKENS


class XLNetLMHeadModel(nn.Module):
    """Predicts words that it sees, whatever the end of its name."""


class LlavaForConditionalGeneration(nn.Module):
    """A decoder alone, whose logits are those of the next word."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(is_encoder_decoder=False)


@pytest.mark.parametrize("kind", [nn.Linear, XLNetLMHeadModel, LlavaForConditionalGeneration])
def test_a_model_without_a_known_head_is_refused(kind: type[nn.Module]) -> None:
    message = rf"{kind.__name__} has no head that PINS knows: give one of .*\({', '.join(HEADS)}\)"
    with pytest.raises(ModelError, match=message):
        find_head(kind(1, 1) if kind is nn.Linear else kind())


def test_a_head_is_found_by_its_name() -> None:
    assert [head.name for head in HEADS.values()] == list(HEADS) == list(HEADED)
