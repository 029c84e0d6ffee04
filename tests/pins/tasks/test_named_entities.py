"""Tags in two schemes, words and their tokens, entities found, and files in the CoNLL layout."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities  # type: ignore[import-untyped]
from torch import Tensor, nn

from pins.errors import ModelError, TaskError
from pins.models.batches import IGNORED
from pins.models.heads import TOKENS
from pins.tasks.datasets import conll
from pins.tasks.named_entities import NamedEntities, Sentence, compare, to_bio
from tests.pins.networks import tiny
from tests.pins.tasks.hubs import save_hub
from tests.pins.tasks.reading import byte_tokenizer, piece_tokenizer, word_tokenizer

LABELS = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")


def sentence(text: str) -> Sentence:
    """`Ada/B-PER sings` is two words, the second outside."""
    pairs = [word.partition("/") for word in text.split()]
    return Sentence(tuple(word for word, _, _ in pairs), tuple(tag or "O" for _, _, tag in pairs))


ROWS = (
    sentence("Ada/B-PER Lovelace/I-PER saw London/B-LOC"),
    sentence("nothing here"),
    sentence("New/B-LOC York/I-LOC Bob/B-PER Ada/B-PER"),
)
TEXTS = [" ".join(row.words) for row in ROWS]
READER = word_tokenizer(TEXTS)


def task(*rows: Sentence) -> NamedEntities:
    return NamedEntities(
        name="test", question="?", labels=LABELS, train=rows, test=rows, recipe=conll.RECIPE
    )


@dataclass(frozen=True)
class Classes:
    logits: Tensor


class Oracle(nn.Module):
    """Sure of the labels of a batch; of class `instead` where the label is `of`."""

    def __init__(self, of: str = "O", instead: str = "O") -> None:
        super().__init__()
        self.of, self.instead = LABELS.index(of), LABELS.index(instead)
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, labels: Tensor, **_: Tensor) -> Classes:
        classes = labels.masked_fill(labels == self.of, self.instead).clamp(min=0)
        return Classes(9.0 * nn.functional.one_hot(classes, len(LABELS)))


def judged(
    model: nn.Module, rows: Sequence[Sentence] = ROWS, *, reader: Any = READER, length: int = 20
) -> Any:
    of = task(*rows)
    encoded = of.encode(rows, reader, length, TOKENS, train=False)
    return of.evaluate(model, reader, encoded, TOKENS, batch_size=2)


# ------------------------------------------------------------------ schemes


@pytest.mark.parametrize(
    ("iob1", "bio"),
    [
        ("O O", "O O"),
        ("I-PER I-PER O", "B-PER I-PER O"),
        ("O I-PER", "O B-PER"),
        ("I-PER B-PER I-PER", "B-PER B-PER I-PER"),  # two that touch
        ("I-PER I-LOC", "B-PER B-LOC"),  # of two types: no B in IOB1
        ("I-PER O I-PER", "B-PER O B-PER"),
        ("I-LOC I-LOC B-LOC O I-ORG", "B-LOC I-LOC B-LOC O B-ORG"),
        ("I-A-B I-A", "B-A-B B-A"),  # a type may have a dash
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC"),  # what is BIO stays
        ("I-LOC O B-MISC", "B-LOC O B-MISC"),  # in both schemes, as twice in CoNLL-2003
        ("B-PER I-PER E-PER S-PER O", "B-PER I-PER I-PER B-PER O"),  # BIOES
        ("S-PER I-PER E-PER I-PER", "B-PER B-PER I-PER B-PER"),  # what follows an end begins
        ("", ""),
    ],
)
def test_other_schemes_in_bio_by_hand(iob1: str, bio: str) -> None:
    assert to_bio(iob1.split()) == tuple(bio.split())


tags = st.sampled_from(("O", "I-PER", "B-PER", "E-PER", "S-PER", "I-LOC", "B-LOC"))


@given(st.lists(tags, max_size=12))
def test_bio_has_the_same_entities_and_each_begins_with_b(written: list[str]) -> None:
    bio = to_bio(written)
    assert get_entities(list(bio)) == get_entities(written)
    assert to_bio(bio) == bio
    begun = [at for at, tag in enumerate(bio) if tag.startswith("B")]
    assert begun == [start for _, start, _ in get_entities(list(bio))]


def test_making_every_first_i_a_b_is_not_enough() -> None:
    # the rival: B after O alone; it loses the entity that touches one of another type
    written = ["I-PER", "I-LOC"]
    rival = [f"B{tag[1:]}" if at == 0 else tag for at, tag in enumerate(written)]
    assert [f"B{tag[1:]}" for tag in written] == list(to_bio(written)) != rival


# ------------------------------------------------------------------ words and tokens


def test_the_first_token_of_a_word_has_its_label() -> None:
    reader = piece_tokenizer(["ab c dead"], size=1)  # of letters alone
    row = sentence("ab/B-PER c/I-PER dead")
    encoded = task(row).encode([row], reader, 20, TOKENS, train=True)
    tokens = reader.convert_ids_to_tokens(encoded[0]["input_ids"])
    assert tokens == ["[CLS]", "a", "##b", "c", "d", "##e", "##a", "##d", "[SEP]"]
    labels: Any = encoded[0]["labels"]
    named = [LABELS[label] if label != IGNORED else "-" for label in labels]
    assert named == ["-", "B-PER", "-", "I-PER", "O", "-", "-", "-", "-"]


def test_padding_and_special_tokens_have_no_label() -> None:
    encoded = task(*ROWS).encode(ROWS, READER, 20, TOKENS, train=True)
    batch = encoded.batch(range(3))
    assert (batch["labels"] != IGNORED).sum() == sum(len(row.words) for row in ROWS)
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()


def test_byte_level_words_are_read_as_in_a_text() -> None:
    reader = byte_tokenizer(TEXTS)
    row = ROWS[0]
    encoded = task(row).encode([row], reader, 40, TOKENS, train=True)
    tokens: Any = encoded[0]["input_ids"]
    assert list(tokens) == reader(" " + " ".join(row.words))["input_ids"]
    # without the space they would be pieces of one long word
    plain = reader(list(row.words), is_split_into_words=True)["input_ids"]
    assert reader.decode(tokens).split() == list(row.words) != reader.decode(plain).split()


def test_a_word_without_tokens_is_outside() -> None:
    reader = piece_tokenizer(["a b c d e o l v"], size=30)
    gone = "\u200d"  # the tokenizer drops it, as it drops all of Unicode's format characters
    row = Sentence(("ab", gone), ("B-PER", "B-LOC"))
    encoded = task(row).encode([row], reader, 20, TOKENS, train=False)
    assert encoded.about[0].positions[1] is None
    scores = judged(Oracle(), [row], reader=reader)
    assert (scores["precision"], scores["recall"]) == (1, 0.5)


def test_a_sentence_without_tokens_teaches_nothing_and_is_judged() -> None:
    reader = piece_tokenizer(["a b c d e o l v"], size=30)
    rows = (Sentence(("\u200d",), ("B-PER",)), sentence("ab/B-PER"))
    of = task(*rows)
    assert len(of.encode(rows, reader, 20, TOKENS, train=True)) == 1
    assert len(of.encode(rows, reader, 20, TOKENS, train=False)) == 2
    scores = judged(Oracle(), rows, reader=reader)
    assert (scores["precision"], scores["recall"]) == (1, 0.5)
    alone = judged(Oracle(), rows[:1], reader=reader)
    assert alone == {"f1": 0, "precision": 0, "recall": 0, "loss": 0}


def test_slow_tokenizers_are_refused() -> None:
    transformers = pytest.importorskip("transformers")
    with pytest.raises(ModelError, match="CanineTokenizer does not say where its tokens come from"):
        task(*ROWS).encode(ROWS, transformers.CanineTokenizer(), 20, TOKENS, train=True)


def test_no_rows_are_no_features() -> None:
    assert len(task(*ROWS).encode([], READER, 20, TOKENS, train=True)) == 0


# ------------------------------------------------------------------ scores


def test_right_labels_score_one() -> None:
    scores = judged(Oracle())
    assert (scores["f1"], scores["precision"], scores["recall"]) == (1, 1, 1)
    assert scores["loss"] < judged(Oracle("B-PER", "O"))["loss"]


def test_an_entity_counts_as_a_whole() -> None:
    # Lovelace taken for outside: Ada alone is another entity than Ada Lovelace
    scores = judged(Oracle("I-PER", "O"))
    assert scores["precision"] == scores["recall"] == pytest.approx(4 / 5)
    # Bob and the second Ada lost as well: 2 right of 2 found, of 5
    scores = judged(Oracle("B-PER", "O"))
    assert scores["recall"] == pytest.approx(2 / 5)


def test_an_entity_that_is_cut_off_is_missed_not_forgotten() -> None:
    row = sentence("Ada/B-PER saw London/B-LOC")
    for length, recall in ((20, 1), (4, 0.5), (3, 0.5), (2, 0)):
        scores = judged(Oracle(), [row], length=length)
        assert scores["recall"] == recall
        assert scores["precision"] == (1 if recall else 0)


def test_an_entity_that_is_cut_in_two_is_missed() -> None:
    scores = judged(Oracle(), [sentence("Ada/B-PER Lovelace/I-PER Bob/B-PER")], length=3)
    assert scores["f1"] == 0


def test_without_entities_on_one_side_or_both_scores_are_zero() -> None:
    nothing = {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert compare([["O"]], [["O"]]) == nothing
    assert compare([["B-PER"]], [["O"]]) == nothing
    assert compare([["O"]], [["B-PER"]]) == nothing
    assert compare([["B-PER"]], [["B-PER"]])["f1"] == 1


def test_a_run_that_begins_with_i_is_an_entity_as_in_conlleval() -> None:
    assert compare([["B-PER", "I-PER"]], [["I-PER", "I-PER"]])["f1"] == 1


def test_a_real_model_is_judged_without_dropout_and_its_loss_is_that_of_a_label() -> None:
    model = tiny(
        "Bert", "ForTokenClassification", vocab_size=len(READER), num_labels=len(LABELS)
    ).train()
    scores = judged(model)
    assert judged(model) == scores  # dropout would draw anew
    assert model.training
    encoded = task(*ROWS).encode(ROWS, READER, 20, TOKENS, train=False)
    model.eval()
    whole = model(**encoded.batch(range(len(encoded)))).loss.item()
    assert scores["loss"] == pytest.approx(whole, rel=1e-5)
    assert task(*ROWS).heads == (TOKENS,)


# ------------------------------------------------------------------ files


WNUT = "@paul\tO\nEmpire\tB-location\nState\tI-location\n\t\nAda\tB-person\nsings\tO\n"
CONLL = (
    "-DOCSTART- -X- -X- O\n\nEU NNP I-NP I-ORG\nBonn NNP I-NP I-LOC\nBerlin NNP I-NP B-LOC\n\n\n"
    "-DOCSTART- -X- -X- O\n\nPeter NNP I-NP I-PER\nBlackburn NNP I-NP I-PER"
)


def saved(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.conll").write_text(text)
    return folder


def test_tabs_and_bio(tmp_path: Path) -> None:
    of = conll.load(saved(tmp_path, train=WNUT, dev="a\tO\n", test="b\tB-group\n"))
    assert of.train == (
        sentence("@paul Empire/B-location State/I-location"),
        sentence("Ada/B-person sings"),
    )
    assert of.test == (sentence("b/B-group"),)  # dev has no part
    assert of.labels == ("B-group", "B-location", "B-person", "I-location", "O")
    assert list(of.digests) == ["train.conll", "test.conll"]
    assert (of.name, of.metric) == ("ner", "f1")


def test_spaces_documents_and_iob1(tmp_path: Path) -> None:
    of = conll.load(saved(tmp_path, train=CONLL, dev=WNUT.replace("\n", "\r\n")))
    assert of.train == (
        sentence("EU/B-ORG Bonn/B-LOC Berlin/B-LOC"),
        sentence("Peter/B-PER Blackburn/I-PER"),
    )
    assert of.test[1] == sentence("Ada/B-person sings")


@pytest.mark.parametrize(
    "names",
    [
        ("eng.train", "eng.testb"),
        ("train.txt", "valid.txt"),
        ("esp.train", "esp.testb"),
        ("ned.train", "ned.testa"),
        ("wnut17train.conll", "emerging.test.annotated"),
        ("wnut17train.conll", "emerging.dev.conll"),
    ],
)
def test_files_go_by_several_names(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).write_text(WNUT)
    assert len(conll.load(tmp_path).test) == 2


def test_names_that_are_missing_or_double_are_one_line(tmp_path: Path) -> None:
    folder = saved(tmp_path, train=WNUT)
    with pytest.raises(TaskError, match=r"holds none of test\.conll, .*, dev\.conll, .*: give the"):
        conll.load(folder)
    (folder / "test.txt").write_text(WNUT)
    saved(folder, testb=WNUT)
    with pytest.raises(TaskError, match=r"holds test\.txt and testb\.conll, both for .*: keep one"):
        conll.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tO\nb\n", r"line 2: expected a word, a tab or a space, and its tag, came 'b'"),
        ("a\tO\nb\t\n", r"line 2: expected a word, a tab or a space, and its tag, came 'b\\t'"),
        ("\tO\n", r"line 1: expected a word, a tab or a space, and its tag, came '\\tO'"),
        (
            "a\tO\nb O x\n",
            r"line 2: expected O, or B-, I-, .* as tag, came 'x'",
        ),
        ("a\tU-PER\n", r"line 1: expected O, or B-, I-, .* \(BIO, IOB1 or BIOES\) as tag, came"),
        ("a\tB-\n", r"line 1: expected O, or B-, I-, E- or S- and a type"),
        ("# a comment\n", r"holds no sentences: give the original file, whole"),
        ("\n\n", r"holds no sentences: give the original file, whole"),
    ],
)
def test_what_is_no_word_and_tag_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    folder = saved(tmp_path, train=WNUT, test=text)
    file = re.escape(str(folder / "test.conll"))
    with pytest.raises(TaskError, match=rf"\A{file}.*{message}.*\Z"):
        conll.load(folder)


def test_tags_of_two_schemes_in_a_file_are_read_as_conlleval_does(tmp_path: Path) -> None:
    # CoNLL-2003 is in IOB1, and has twice a B- after an O
    text = "Paris NNP I-NP I-LOC\nwon VBD I-VP O\nAtlanta NNP I-NP B-MISC\n"
    of = conll.load(saved(tmp_path, train=text, test=text))
    assert of.train == (sentence("Paris/B-LOC won Atlanta/B-MISC"),)


def test_a_comment_has_no_tag_and_a_word_may_be_a_hash(tmp_path: Path) -> None:
    text = "# id 7\n#\tO\n# text = a\n#tag\tB-PER\n#\n\n# O\n"
    of = conll.load(saved(tmp_path, train=text, test=text))
    assert of.train == (sentence("# #tag/B-PER"), sentence("#"))


def test_latin_1_is_named_with_what_to_do(tmp_path: Path) -> None:
    saved(tmp_path, test=WNUT)
    (tmp_path / "train.conll").write_bytes("a O\ncaf\xe9 O\n".encode("latin1"))
    with pytest.raises(TaskError, match=r"line 2: expected UTF-8, .* 0xe9: .*iconv -f latin1"):
        conll.load(tmp_path)


@pytest.mark.usefixtures("hub_cache")
def test_the_hub_has_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = ("O", "B-person", "B-location", "I-location")
    of = conll.load(saved(tmp_path, train=WNUT, test=WNUT))
    rows = [
        {"tokens": list(row.words), "ner_tags": [classes.index(tag) for tag in row.tags]}
        for row in of.train
    ]
    splits = {("default", "train"): rows, ("default", "test"): rows}
    hub = save_hub(tmp_path / "hub", splits, {"ner_tags": classes})
    monkeypatch.setattr(conll, "HUB", str(hub))
    from_hub = conll.load()
    assert (from_hub.train, from_hub.test, from_hub.labels) == (of.train, of.test, of.labels)
    assert list(from_hub.digests) == [f"{hub} train", f"{hub} test"]


def test_the_shared_files_have_their_sentences(shared_data: Path) -> None:
    folder = shared_data / "ner" / "wnut17"
    of = conll.load(folder)
    assert (len(of.train), len(of.test)) == (3394, 1287)
    types = ("corporation", "creative-work", "group", "location", "person", "product")
    assert of.labels == (*(f"B-{name}" for name in types), *(f"I-{name}" for name in types), "O")
    assert sum(len(row.words) for row in of.train) == 62730
    assert set(of.digests) == {"train.conll", "test.conll"}


def test_the_shared_dev_file_is_read_where_there_is_no_test(
    shared_data: Path, tmp_path: Path
) -> None:
    for name in ("train.conll", "dev.conll"):
        (tmp_path / name).symlink_to(shared_data / "ner" / "wnut17" / name)
    assert len(conll.load(tmp_path).test) == 1009
