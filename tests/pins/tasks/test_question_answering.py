"""Windows over contexts, spans out of windows, SQuAD's own scores, and its files."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.errors import ModelError, TaskError
from pins.models.batches import Encoded
from pins.models.heads import SPAN
from pins.tasks.datasets import squad
from pins.tasks.question_answering import (
    ANSWER_LENGTH,
    Answer,
    Question,
    QuestionAnswering,
    Window,
    best_spans,
    compare,
)
from tests.pins.networks import tiny
from tests.pins.tasks.hubs import save_hub
from tests.pins.tasks.reading import byte_tokenizer, piece_tokenizer, word_tokenizer

WORDS = tuple("abcdefghij")
WORDWISE = word_tokenizer([" ".join(WORDS) + " ?"])


def question(context: str, *answers: str, text: str = "a b ?", name: str = "1") -> Question:
    """A question whose answers are where they first stand in the context."""
    return Question(name, text, context, tuple(Answer(a, context.index(a)) for a in answers))


def task(*rows: Question) -> QuestionAnswering:
    return QuestionAnswering(name="test", question="?", train=rows, test=rows, recipe=squad.RECIPE)


def encode_windows(rows: Sequence[Question], tokenizer: Any, length: int) -> Encoded:
    return task().encode(rows, tokenizer, length, SPAN, train=True)


@dataclass(frozen=True)
class Spans:
    start_logits: Tensor
    end_logits: Tensor


class Oracle(nn.Module):
    """Sure of the positions that a batch has, `shift` tokens further."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.shift = shift
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, start_positions: Tensor, end_positions: Tensor, **batch: Tensor) -> Spans:
        logits = torch.zeros(batch["input_ids"].shape)
        starts, ends = (
            logits.scatter(1, positions.unsqueeze(1) + self.shift, 9.0)
            for positions in (start_positions, end_positions)
        )
        return Spans(starts, ends)


class Fixed(nn.Module):
    """The same logits for every row."""

    def __init__(self, start: Tensor, end: Tensor) -> None:
        super().__init__()
        self.start, self.end = nn.Parameter(start), nn.Parameter(end)

    def forward(self, input_ids: Tensor, **_: Tensor) -> Spans:
        rows, length = input_ids.shape
        logits = (side[:length].expand(rows, length) for side in (self.start, self.end))
        return Spans(*logits)


class Liking(nn.Module):
    """Logits by token: of a start and of an end there."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, input_ids: Tensor, **_: Tensor) -> Spans:
        logits = self.logits[input_ids]
        return Spans(logits, logits)


# ------------------------------------------------------------------ windows

# longer than a window about as often as not
contexts = st.integers(1, 60).flatmap(
    lambda size: st.lists(st.sampled_from(WORDS), min_size=size, max_size=size)
)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Question, int, int]:
    """A question, and the first and last word of its answer."""
    words = draw(contexts)
    first = draw(st.integers(0, len(words) - 1))
    last = draw(st.integers(first, len(words) - 1))
    start = len(" ".join([*words[:first], ""]))
    answer = Answer(" ".join(words[first : last + 1]), start)
    return Question("1", "a b ?", " ".join(words), (answer,)), first, last


@given(questions(), st.integers(16, 40))
def test_positions_in_a_window_decode_to_the_answer(
    row: tuple[Question, int, int], length: int
) -> None:
    asked, first, last = row
    answer = asked.answers[0]
    encoded = encode_windows([asked], WORDWISE, length)
    inside = []
    for feature, window in zip(encoded.features, encoded.about, strict=True):
        start, end = feature["start_positions"], feature["end_positions"]
        holds = window.starts[0] <= answer.start and window.ends[-1] >= answer.start + len(
            answer.text
        )
        inside.append(holds)
        assert ((start, end) != (0, 0)) == holds
        if holds:
            assert window.text(start, end) == answer.text
    if last - first < length // 3:  # an answer as long as what windows share
        assert any(inside)


@given(questions(), st.integers(16, 40))
def test_windows_cover_the_context_share_a_stride_and_fit(
    row: tuple[Question, int, int], length: int
) -> None:
    encoded = encode_windows([row[0]], WORDWISE, length)
    assert all(encoded.length(at) <= length for at in range(len(encoded)))
    windows: list[Window] = list(encoded.about)
    assert windows[0].starts[0] == 0
    assert windows[-1].ends[-1] == len(row[0].context)
    for window, following in pairwise(windows):
        shared = set(window.starts) & set(following.starts)
        assert len(shared) == length // 3
    for feature, window in zip(encoded.features, windows, strict=True):
        tokens: Any = feature["input_ids"]
        words = WORDWISE.decode(tokens[window.first : window.first + len(window.starts)])
        assert words == row[0].context[window.starts[0] : window.ends[-1]]


def test_an_answer_that_stands_elsewhere_decodes_to_something_else() -> None:
    asked = question("a b c d e f", "c d")
    moved = replace(asked, answers=(Answer("c d", 2),))
    encoded = encode_windows([moved], WORDWISE, 16)
    start, end = encoded[0]["start_positions"], encoded[0]["end_positions"]
    assert encoded.about[0].text(start, end) == "b c"


def test_an_answer_in_the_middle_of_words_gets_whole_words() -> None:
    asked = Question("1", "when ?", "it was 1999 or so", (Answer("99 o", 9),))
    encoded = encode_windows([asked], word_tokenizer([asked.context]), 32)
    start, end = encoded[0]["start_positions"], encoded[0]["end_positions"]
    assert encoded.about[0].text(start, end) == "1999 or"


@pytest.mark.parametrize("answer", ["Ångström units", "1 µm", "λ", "naïve", "10,000 Å"])
@pytest.mark.parametrize("tokenizer", [byte_tokenizer, piece_tokenizer])
def test_texts_come_from_the_context_whatever_its_letters_are(
    tokenizer: Callable[[list[str]], Any], answer: str
) -> None:
    context = "In naïve Ångström units the length λ of 10,000 Å is 1 µm."
    asked = question(context, answer, text="λ?")
    for length in (96, 40):
        encoded = encode_windows([asked], tokenizer([context]), length)
        texts = {
            window.text(*positions)
            for window, positions in zip(
                encoded.about,
                ((f["start_positions"], f["end_positions"]) for f in encoded.features),
                strict=True,
            )
            if positions != (0, 0)
        }
        assert texts == {answer}


def test_an_answer_that_touches_another_token_begins_with_its_own() -> None:
    asked = question("a 24-10, b", "10")
    encoded = encode_windows([asked], word_tokenizer([asked.context]), 32)
    start, end = encoded[0]["start_positions"], encoded[0]["end_positions"]
    assert encoded.about[0].text(start, end) == "10"


def test_neighbouring_windows_of_384_tokens_share_128() -> None:
    encoded = encode_windows([question(" ".join(WORDS * 60), "j")], WORDWISE, 384)
    first, second = (set(window.starts) for window in encoded.about[:2])
    assert len(first & second) == 128


def test_white_space_around_an_answer_has_no_tokens() -> None:
    asked = Question("1", "?", "a b c", (Answer(" b ", 1),))
    encoded = encode_windows([asked], WORDWISE, 16)
    start, end = encoded[0]["start_positions"], encoded[0]["end_positions"]
    assert encoded.about[0].text(start, end) == "b"


def test_a_long_question_leaves_the_context_its_room() -> None:
    asked = question("a b c d", "d", text="a b " * 100)
    encoded = encode_windows([asked], WORDWISE, 30)
    assert len(encoded) == 1
    assert encoded.length(0) == 10 + 3 + 4  # a third of 30, [CLS] and two [SEP], the context
    assert encoded.about[0].starts.tolist() == [0, 2, 4, 6]


def test_a_question_has_64_tokens_of_384_at_most() -> None:
    asked = question("a b c d", "d", text="a b " * 100)
    assert encode_windows([asked], WORDWISE, 384).length(0) == 64 + 3 + 4


def test_a_context_without_tokens_and_no_rows_at_all() -> None:
    encoded = encode_windows([Question("1", "?", " ", (Answer(" ", 0),))], WORDWISE, 16)
    assert len(encoded) == 1
    assert encoded[0]["start_positions"] == 0
    assert not encode_windows([], WORDWISE, 16)


def test_too_short_windows_and_slow_tokenizers_are_refused() -> None:
    with pytest.raises(TaskError, match=r"windows of 15 tokens leave a context no room: give 16"):
        encode_windows([question("a", "a")], WORDWISE, 15)
    transformers = pytest.importorskip("transformers")
    slow = transformers.CanineTokenizer()
    with pytest.raises(ModelError, match="CanineTokenizer does not say where its tokens come from"):
        encode_windows([question("a", "a")], slow, 16)


# ------------------------------------------------------------------ spans


@given(
    st.integers(1, 20).flatmap(
        lambda n: st.lists(
            st.tuples(*[st.integers(-50, 50)] * 2, st.booleans()), min_size=n, max_size=n
        )
    )
)
def test_the_best_span_of_a_short_window_is_the_best_of_all(
    row: list[tuple[int, int, bool]],
) -> None:
    columns = zip(*row, strict=True)
    start, end, inside = (torch.tensor([column]) for column in columns)
    score, first, last = best_spans(start.float(), end.float(), inside)
    pairs = [
        (start[0, i].item() + end[0, j].item())
        for i, j in product(range(len(row)), repeat=2)
        if i <= j and inside[0, i] and inside[0, j]
    ]
    assert score.item() == max(pairs, default=-torch.inf)
    if pairs:
        i, j = int(first), int(last)
        assert i <= j
        assert inside[0, i]
        assert inside[0, j]
        assert start[0, i] + end[0, j] == score


def test_an_answer_has_30_tokens_at_most() -> None:
    start, end = torch.zeros(1, 60), torch.zeros(1, 60)
    start[0, 5] = 9
    end[0, 5 + ANSWER_LENGTH] = 9
    end[0, 5 + ANSWER_LENGTH - 1] = 8
    score, first, last = best_spans(start, end, torch.ones(1, 60).bool())
    assert (score.item(), first.item(), last.item()) == (17, 5, 34)


def test_only_the_20_best_starts_and_ends_are_tried() -> None:
    # the ends that come after the starts are not among the best
    start, end = torch.arange(60.0).unsqueeze(0), torch.arange(60.0).flip(0).unsqueeze(0)
    score, _, _ = best_spans(start, end, torch.ones(1, 60).bool())
    assert score.item() == -torch.inf


# ------------------------------------------------------------------ scores

ROWS = (
    question("the mask keeps k weights of all", "k weights", "keeps k weights", name="1"),
    question("a b c d e f g h i j " * 3, "f g h", name="2"),
    question("h i j a", "j", name="3"),
)
READER = word_tokenizer([row.context for row in ROWS] + ["a b ?"])


def judged(model: nn.Module, *, rows: tuple[Question, ...] = ROWS, length: int = 24) -> Any:
    of = task(*rows)
    encoded = of.encode(rows, READER, length, SPAN, train=False)
    return of.evaluate(model, READER, encoded, SPAN, batch_size=2)


def test_right_positions_score_one() -> None:
    scores = judged(Oracle())
    assert (scores["f1"], scores["exact_match"]) == (1, 1)
    assert scores["loss"] < judged(Oracle(1))["loss"]
    assert len(task(*ROWS).encode(ROWS, READER, 24, SPAN, train=False)) > len(ROWS)


def test_positions_one_token_further_score_less() -> None:
    scores = judged(Oracle(1))
    assert scores["exact_match"] == 0
    # "weights of" against "k weights": 1 of 2 and 2; "g h i" against "f g h": 2 of 3 and 3
    assert scores["f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)


def test_the_surest_window_of_a_question_answers_it() -> None:
    names = [f"w{number}" for number in range(40)]
    asked = question(" ".join(names), "w37", "w38", text="w0 ?")
    reader = word_tokenizer([asked.context + "?"])
    of = task(asked)
    encoded = of.encode([asked], reader, 24, SPAN, train=False)
    assert len(encoded) > 2

    def exact(sure: str, less_sure: str) -> float:
        likes = torch.zeros(len(reader))
        likes[reader.convert_tokens_to_ids([sure, less_sure])] = torch.tensor([9.0, 5.0])
        return of.evaluate(Liking(likes), reader, encoded, SPAN, batch_size=2)["exact_match"]

    assert exact("w37", "w3") == 1
    assert exact("w3", "w37") == 0


def test_neither_the_question_nor_padding_is_an_answer() -> None:
    rows = (question("c", "c"), question("c d e f g h", "c d", name="2"))
    start = torch.zeros(24)
    start[:5], start[6:] = 9, 9  # [CLS] a b ? [SEP] c …
    scores = judged(Fixed(start, torch.zeros(24)), rows=rows[:1])
    assert scores["exact_match"] == 1
    end = torch.zeros(24)
    end[7:] = 9  # past the context of the first
    assert judged(Fixed(start, end), rows=rows)["f1"] > 0


def test_a_question_without_a_valid_span_is_answered_by_the_empty_text() -> None:
    asked = question("a b c d e f g h i j " * 5, "c")
    model = Fixed(torch.arange(64.0), torch.arange(64.0).flip(0))
    of = task(asked)
    encoded = of.encode([asked], READER, 64, SPAN, train=False)
    assert of.evaluate(model, READER, encoded, SPAN, batch_size=2)["f1"] == 0
    nothing = replace(asked, answers=(Answer("", 0),))
    encoded = of.encode([nothing], READER, 64, SPAN, train=False)
    assert of.evaluate(model, READER, encoded, SPAN, batch_size=2)["exact_match"] == 1


# by hand from SQuAD's evaluate-v1.1.py: lower case, no punctuation, no articles, single spaces
OFFICIAL: list[tuple[str, tuple[str, ...], float, float]] = [
    ("The Eiffel  Tower!", ("eiffel tower",), 1, 1),
    ("a", ("an",), 1, 0),  # nothing is left of either
    ("theatre", ("atre",), 0, 0),
    ("U.S.A.", ("USA",), 1, 1),
    ("twenty-five", ("twenty five",), 0, 0),
    ("Denver Broncos", ("Denver", "the Denver Broncos team"), 0, 0.8),
    ("x y", ("x", "y z", "x y"), 1, 1),
    ("x x", ("x",), 0, 2 / 3),
    ("", ("x",), 0, 0),
    ("24–10", ("24-10",), 0, 0),  # an en dash is no ASCII punctuation
]


@pytest.mark.parametrize(("predicted", "answers", "exact", "f1"), OFFICIAL)
def test_texts_are_compared_as_by_the_official_script(
    predicted: str, answers: tuple[str, ...], exact: float, f1: float
) -> None:
    asked = Question("1", "?", "", tuple(Answer(answer, 0) for answer in answers))
    assert compare({asked: predicted}) == pytest.approx({"f1": f1, "exact_match": exact})


def test_scores_are_means_over_questions() -> None:
    predicted = {
        Question(str(at), "?", "", tuple(Answer(answer, 0) for answer in answers)): text
        for at, (text, answers, _, _) in enumerate(OFFICIAL)
    }
    assert compare(predicted) == pytest.approx(
        {
            "f1": sum(row[3] for row in OFFICIAL) / len(OFFICIAL),
            "exact_match": sum(row[2] for row in OFFICIAL) / len(OFFICIAL),
        }
    )


def test_a_real_model_is_judged_without_dropout_and_left_as_it_was() -> None:
    model = tiny(
        "Bert", "ForQuestionAnswering", vocab_size=len(READER), max_position_embeddings=24
    ).train()
    scores = judged(model)
    assert judged(model) == scores  # dropout would draw anew
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    of = task(*ROWS)
    encoded = of.encode(ROWS, READER, 24, SPAN, train=True)
    model.eval()
    # alone, so that nothing is padded: transformers' own loss counts the logits of padding
    losses = [model(**encoded.batch([at])).loss.item() for at in range(len(encoded))]
    assert scores["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert 0 <= scores["f1"] <= 1
    assert of.heads == (SPAN,)
    assert of.metric in scores


# ------------------------------------------------------------------ SQuAD

CONTEXT = "Super Bowl 50 was played in Santa Clara, California."
ANSWERS = [{"text": "Santa Clara", "answer_start": 28}, {"text": "50", "answer_start": 11}]


def official(**changes: Any) -> dict[str, Any]:
    asked = {"id": "7", "question": "Where?", "answers": ANSWERS, **changes}
    paragraph = {"context": CONTEXT, "qas": [asked]}
    return {"version": "1.1", "data": [{"title": "Super_Bowl_50", "paragraphs": [paragraph]}]}


def saved(folder: Path, train: object, dev: object) -> Path:
    for name, value in zip(squad.FILES, (train, dev), strict=True):
        (folder / name).write_text(json.dumps(value))
    return folder


def test_the_official_files_are_read(tmp_path: Path) -> None:
    of = squad.load(saved(tmp_path, official(answers=ANSWERS[:1]), official()))
    right = (Answer("Santa Clara", 28), Answer("50", 11))
    assert of.train == (Question("7", "Where?", CONTEXT, right[:1]),)
    assert of.test == (Question("7", "Where?", CONTEXT, right),)
    assert set(of.digests) == set(squad.FILES)
    assert (of.name, of.metric, of.recipe.epochs) == ("squad", "f1", 10)


@pytest.mark.usefixtures("hub_cache")
def test_the_hub_has_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts, texts = ([answer[key] for answer in ANSWERS] for key in ("answer_start", "text"))
    row = {
        "id": "7",
        "title": "Super_Bowl_50",
        "context": CONTEXT,
        "question": "Where?",
        "answers": {"text": texts, "answer_start": starts},
    }
    splits = {("plain_text", "train"): [row], ("plain_text", "validation"): [row]}
    monkeypatch.setattr(squad, "HUB", str(save_hub(tmp_path / "hub", splits, {})))
    of = squad.load()
    assert of.train == of.test == squad.load(saved(tmp_path, official(), official())).test
    assert len(of.digests) == 2


@pytest.mark.parametrize(
    ("dev", "message"),
    [
        ([], r"\$: expected an object, came \[\]"),
        ({"data": {}}, r"\$\.data: expected a list as data, came \{\}"),
        ({"data": [7]}, r"\$\.data\[0\]: expected an object, came 7"),
        ({"data": []}, r"holds no questions: give the original file, whole"),
        (official(question=None), r"qas\[0\]: expected a text as question, came None"),
        (official(answers=[]), r"qas\[0\]: expected an answer, as every question of v1\.1 has"),
        (
            official(answers=[{"text": "Santa Clara", "answer_start": 27}]),
            r"\$\.data\[0\]\.paragraphs\[0\]\.qas\[0\]\.answers\[0\]: expected 'Santa Clara' at "
            r"character 27 of the context, came ' Santa Clar'",
        ),
        (
            official(answers=[{"text": "Clara", "answer_start": 4000}]),
            "expected 'Clara' at character 4000 of the context, came ''",
        ),
        (
            official(answers=[{"text": ".", "answer_start": -1}]),
            "expected the number of a character as answer_start, came -1",
        ),
        (
            official(answers=[{"text": "50", "answer_start": "11"}]),
            "expected the number of a character as answer_start, came '11'",
        ),
        (official(answers=[{"text": " ", "answer_start": 5}]), "expected words as text, came ' '"),
    ],
)
def test_what_is_not_as_in_the_official_files_is_one_line(
    tmp_path: Path, dev: object, message: str
) -> None:
    folder = saved(tmp_path, official(), dev)
    file = re.escape(str(folder / "dev-v1.1.json"))
    with pytest.raises(TaskError, match=rf"\A{file}.*{message}.*\Z"):
        squad.load(folder)


def test_an_id_stands_for_one_question(tmp_path: Path) -> None:
    twice = official()
    twice["data"] *= 2
    with pytest.raises(
        TaskError, match=r"data\[1\].*: expected an id that no other question has, came '7'"
    ):
        squad.load(saved(tmp_path, official(), twice))


def test_a_torn_or_missing_file_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path, official(), official())
    file = folder / "dev-v1.1.json"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(TaskError, match=r"dev-v1\.1\.json, line 1: expected JSON"):
        squad.load(folder)
    file.unlink()
    with pytest.raises(TaskError, match=r"holds none of dev-v1\.1\.json: give the folder"):
        squad.load(folder)


def test_the_shared_files_have_their_questions_and_their_answers_are_found(
    shared_data: Path,
) -> None:
    of = squad.load(shared_data / "squad")
    assert (len(of.train), len(of.test)) == (6468, 4681)
    rows = of.test[::20]
    tokenizer = piece_tokenizer([row.context for row in rows], size=3000)
    encoded = of.encode(rows, tokenizer, 384, SPAN, train=False)
    exact = found = 0
    for feature, window in zip(encoded.features, encoded.about, strict=True):
        position: Any = feature["start_positions"]
        if position:
            text = window.text(position, feature["end_positions"])
            assert window.question.answers[0].text in text
            exact += text == window.question.answers[0].text
            found += 1
    assert found >= len(rows)
    assert exact / found > 0.95  # the others are parts of words, as 2015 in 2015–16
