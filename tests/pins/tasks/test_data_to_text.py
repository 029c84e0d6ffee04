"""Sources and references for two kinds of model, texts they write, their scores, and the files."""

import json
import re
import timeit
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu import corpus_bleu
from torch import nn
from torchmetrics.functional.text.rouge import rouge_score

from pins.errors import ModelError, TaskError
from pins.models.batches import IGNORED
from pins.models.heads import CAUSAL, SEQ2SEQ, Head
from pins.tasks.data_to_text import DataToText, Described, compare, generate
from pins.tasks.datasets import e2e, triples
from tests.pins.tasks.hubs import save_hub
from tests.pins.tasks.reading import byte_tokenizer, word_tokenizer

transformers = pytest.importorskip("transformers")

ROWS = (
    Described("name : Bob", ("Bob is here.", "Here, there is Bob.")),
    Described("name : Ada | food : French | area : riverside", ("Ada by the river is French.",)),
    Described("name : Eve | price : £20", ("Eve's costs £20.", "£20 at Eve.", "Pay £20.")),
)
TEXTS = [text for row in ROWS for text in (row.source, *row.references)]
READER = byte_tokenizer(TEXTS)
ENDING = byte_tokenizer(TEXTS, ends=True)
LENGTH = 64


def task(*rows: Described) -> DataToText:
    return DataToText(name="test", question="?", train=rows, test=rows, recipe=e2e.RECIPE)


def network(family: str, **changes: Any) -> nn.Module:
    """A tiny random model with a head to write with."""
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "eos_token_id": 1, "vocab_size": len(READER)}
    if family == "GPT2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": LENGTH, "bos_token_id": 1}
        config = transformers.GPT2Config(**{**ids, **sizes, **changes})
        model = transformers.GPT2LMHeadModel(config)
    elif family == "T5":
        sizes = {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16}
        config = transformers.T5Config(**{**ids, **sizes, "decoder_start_token_id": 0, **changes})
        model = transformers.T5ForConditionalGeneration(config)
    else:
        sizes = {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": LENGTH,
            "bos_token_id": 2,
            "decoder_start_token_id": 1,
            "forced_eos_token_id": 1,
        }
        model = transformers.BartForConditionalGeneration(
            transformers.BartConfig(**{**ids, **sizes, **changes})
        )
    assert isinstance(model, nn.Module)
    return model


FAMILIES: dict[str, tuple[Head, Any]] = {
    "GPT2": (CAUSAL, READER),
    "T5": (SEQ2SEQ, ENDING),
    "BART": (SEQ2SEQ, ENDING),
}
families = pytest.mark.parametrize("family", FAMILIES)


@cache
def taught(family: str) -> nn.Module:
    """A model that knows the first reference of each row by heart; not to be changed."""
    head, reader = FAMILIES[family]
    rows = [Described(row.source, row.references[:1]) for row in ROWS]
    batch = task(*rows).encode(rows, reader, LENGTH, head, train=True).batch(range(3))
    model = network(family, **({"dropout_rate": 0.0} if family == "T5" else {})).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if loss.item() < 0.01:
            break
    return model


def judged(model: nn.Module, family: str, *, size: int = 2) -> Any:
    head, reader = FAMILIES[family]
    of = task(*ROWS)
    encoded = of.encode(ROWS, reader, LENGTH, head, train=False)
    return of.evaluate(model, reader, encoded, head, batch_size=size)


# ------------------------------------------------------------------ rows for a model


def test_a_decoder_learns_what_follows_the_prompt() -> None:
    encoded = task(*ROWS).encode(ROWS, READER, LENGTH, CAUSAL, train=True)
    prompts = task(*ROWS).encode(ROWS, READER, LENGTH, CAUSAL, train=False)
    assert len(encoded) == sum(len(row.references) for row in ROWS)
    references = [(at, text) for at, row in enumerate(ROWS) for text in row.references]
    for feature, (at, text) in zip(encoded.features, references, strict=True):
        tokens: Any = feature["input_ids"]
        labels: Any = feature["labels"]
        prompt: Any = prompts[at]["input_ids"]
        assert tokens[: len(prompt)] == prompt
        assert labels == (*[IGNORED] * len(prompt), *tokens[len(prompt) :])
        assert READER.decode(prompt) == f"{ROWS[at].source}</s>"
        assert READER.decode(tokens[len(prompt) :]) == f"{text}</s>"
        assert "labels" not in prompts[at]
    assert (encoded.side, prompts.side) == ("right", "left")
    assert prompts.batch(range(3))["attention_mask"][:, -1].all()


def test_a_decoder_that_has_a_token_to_begin_with_reads_it_first_and_in_between() -> None:
    reader = byte_tokenizer(TEXTS, bos="<s>")
    tokenizers = pytest.importorskip("tokenizers")
    row = ROWS[0]
    (feature, *_) = task(row).encode([row], reader, LENGTH, CAUSAL, train=True).features
    tokens: Any = feature["input_ids"]
    assert reader.decode(tokens) == "name : Bob<s>Bob is here.</s>"
    reader.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 1)]
    )
    (feature, *_) = task(row).encode([row], reader, LENGTH, CAUSAL, train=True).features
    tokens = feature["input_ids"]
    assert reader.decode(tokens) == "<s>name : Bob<s>Bob is here.</s>"


def test_an_encoder_reads_the_source_and_a_decoder_writes_the_reference() -> None:
    encoded = task(*ROWS).encode(ROWS, ENDING, LENGTH, SEQ2SEQ, train=True)
    sources = task(*ROWS).encode(ROWS, ENDING, LENGTH, SEQ2SEQ, train=False)
    references = [(at, text) for at, row in enumerate(ROWS) for text in row.references]
    assert len(encoded) == len(references)
    for feature, (at, text) in zip(encoded.features, references, strict=True):
        assert {name: feature[name] for name in sources[at]} == sources[at]
        assert ENDING.decode(feature["labels"]) == f"{text}</s>"
        assert ENDING.decode(feature["input_ids"]) == f"{ROWS[at].source}</s>"
    assert sources.side == "right"
    batch = encoded.batch(range(len(encoded)))
    assert (batch["labels"] == IGNORED).any()  # labels are filled up with what is not predicted


@pytest.mark.parametrize(("head", "reader"), [(CAUSAL, READER), (SEQ2SEQ, ENDING)])
@pytest.mark.parametrize("length", [8, 9, 20])
def test_long_rows_are_cut_and_still_end(head: Head, reader: Any, length: int) -> None:
    row = Described("price : 20 " * 30, ("it costs 20. " * 30,))
    (feature,) = task(row).encode([row], reader, length, head, train=True).features
    labels: Any = feature["labels"]
    tokens: Any = feature["input_ids"]
    kept = [label for label in labels if label != IGNORED]
    assert kept[-1] == 1
    assert len(kept) == length // 2
    assert len(tokens) == (length if head is CAUSAL else length - length // 2)
    encoded = task(row).encode([row], reader, length, head, train=False)
    assert encoded.length(0) == length - length // 2
    assert encoded.about[0].length == length // 2


def test_a_text_has_128_tokens_at_most() -> None:
    row = Described("a", ("it costs 20. " * 300,))
    encoded = task(row).encode([row], READER, 1000, CAUSAL, train=False)
    assert encoded.about[0].length == 128


def test_too_little_room_or_no_end_is_refused() -> None:
    with pytest.raises(
        TaskError, match="7 tokens have no room for data and a text: give 8 or more"
    ):
        task(*ROWS).encode(ROWS, READER, 7, CAUSAL, train=True)
    with pytest.raises(ModelError, match="has no token that ends a text, which a model needs to"):
        task(*ROWS).encode(ROWS, word_tokenizer(TEXTS), LENGTH, CAUSAL, train=True)


@pytest.mark.parametrize("head", [CAUSAL, SEQ2SEQ])
@pytest.mark.parametrize("train", [True, False])
def test_no_rows_are_no_features(head: Head, train: bool) -> None:
    assert len(task().encode([], READER, LENGTH, head, train=train)) == 0


# ------------------------------------------------------------------ scores


@families
def test_a_model_that_knows_the_texts_scores_one_and_one_that_does_not_scores_less(
    family: str,
) -> None:
    scores = judged(taught(family), family)
    assert (scores["bleu"], scores["rouge_l"]) == (1, 1)
    stranger = judged(network(family), family)
    assert stranger["bleu"] < 0.2
    assert stranger["loss"] > scores["loss"]
    assert task(*ROWS).metric in scores
    assert task(*ROWS).heads == (SEQ2SEQ, CAUSAL)


@families
def test_padding_does_not_change_what_is_written(family: str) -> None:
    head, reader = FAMILIES[family]
    encoded = task(*ROWS).encode(ROWS, reader, LENGTH, head, train=False)
    for model in (taught(family), network(family)):
        alone, together = (
            generate(model, reader, encoded, head, batch_size=size) for size in (1, 3)
        )
        assert alone == together


@families
def test_the_settings_a_model_was_saved_with_are_set_aside(family: str) -> None:
    model: Any = taught(family)
    own = model.generation_config
    try:
        model.generation_config = type(own)(
            **{
                **{key: value for key, value in own.to_dict().items() if value is not None},
                "num_beams": 4,
                "do_sample": True,
                "temperature": 9.0,
                "no_repeat_ngram_size": 1,
                "min_new_tokens": 20,
            }
        )
        saved = model.generation_config
        scores = judged(model, family)
        assert model.generation_config is saved
    finally:
        model.generation_config = own
    assert (scores["bleu"], scores["rouge_l"]) == (1, 1)


@families
def test_a_model_is_judged_without_dropout_and_its_loss_is_that_of_a_token(family: str) -> None:
    model = network(family).train()
    scores = judged(model, family)
    assert judged(model, family, size=3) == pytest.approx(scores)  # dropout would draw anew
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    head, reader = FAMILIES[family]
    encoded = task(*ROWS).encode(ROWS, reader, LENGTH, head, train=True)
    model.eval()
    whole = model(**encoded.batch(range(len(encoded)))).loss.item()
    assert scores["loss"] == pytest.approx(whole, rel=1e-5)


WORDS = st.sampled_from(("The", "Vaults", "pub", "is", "cheap", ".", "by", "the", "river"))
sentences = st.lists(WORDS, min_size=4, max_size=9).map(" ".join)
corpora = st.lists(
    st.tuples(sentences, st.lists(sentences, min_size=1, max_size=4)), min_size=1, max_size=4
)


@given(corpora)
def test_bleu_is_sacrebleus_however_many_references_a_text_has(
    corpus: list[tuple[str, list[str]]],
) -> None:
    texts = [text for text, _ in corpus]
    references = [own for _, own in corpus]
    widest = max(map(len, references))
    # a reference that is there twice changes nothing: n-grams are counted by their maximum
    full = [(own * widest)[:widest] for own in references]
    expected = corpus_bleu(texts, list(zip(*full, strict=True))).score / 100
    assert compare(texts, references)["bleu"] == pytest.approx(expected)


def test_a_reference_beyond_those_of_others_counts() -> None:
    # zip over references of unequal number would drop it
    texts = ["the pub is cheap today", "it is by the river bank"]
    references = [["something else was said there"], ["nobody knows where that is", texts[1]]]
    shared = corpus_bleu(texts, list(zip(*references, strict=False))).score / 100
    assert compare(texts, references)["bleu"] > shared + 0.2


def test_equal_texts_score_one_and_others_less() -> None:
    texts = ["The pub is cheap today.", "It is by the river bank."]
    right = [[texts[0]], ["It is elsewhere.", texts[1], "Who knows?"]]
    assert compare(texts, right) == {"bleu": 1.0, "rouge_l": 1.0}
    scores = compare(texts[::-1], right)
    assert scores["bleu"] < 0.2
    assert scores["rouge_l"] < 0.5
    assert compare(["", ""], right) == {"bleu": 0.0, "rouge_l": 0.0}


@pytest.mark.parametrize(
    ("text", "first_half"),
    [
        ("Moscow is in Russia .", "moscow IS"),
        ("Москва находится в России .", "Москва находится"),
        ("मॉस्को रूस में है .", "मॉस्को रूस"),
        ("莫斯科在", "莫斯"),
        ("ไทย", "ไ"),
        ("für Öl über Ül", "fu\u0308r o\u0308l"),  # an umlaut as a letter and a mark
    ],
)
def test_rouge_reads_words_of_any_script(text: str, first_half: str) -> None:
    assert compare([text], [[text]])["rouge_l"] == 1
    half = compare([first_half], [[text]])["rouge_l"]
    assert half == pytest.approx(2 / 3) or (text == "ไทย" and 0 < half < 1)
    assert compare(["für Öl"], [["über Ül"]])["rouge_l"] == 0  # no word in common


@given(st.text(alphabet="aB1é_-.,' \n", max_size=12), st.text(alphabet="aB1_-.,' \n", max_size=12))
def test_of_ascii_letters_rouge_is_the_original(text: str, reference: str) -> None:
    text = text.replace("é", "e")
    original = rouge_score([text], [[reference]], rouge_keys="rougeL")["rougeL_fmeasure"].item()
    assert compare([text], [[reference]])["rouge_l"] == original


def test_rouge_takes_the_best_reference_by_hand() -> None:
    # longest common subsequence "a c", of 3 and of 2 words: P = 2/3, R = 1, F = 0.8
    assert compare(["a b c"], [["x", "a c", "c b a"]])["rouge_l"] == pytest.approx(0.8)
    # the mean over texts, not over references
    scores = compare(["a b c", "d"], [["x", "a c", "c b a"], ["d"]])
    assert scores["rouge_l"] == pytest.approx(0.9)


# ------------------------------------------------------------------ E2E

RECORD = "name[The Vaults], priceRange[more than £30], near[Café Adriatic]"
SOURCE = "name : The Vaults | priceRange : more than £30 | near : Café Adriatic"
CSV = f'mr,ref\n"{RECORD}","Near Café Adriatic,\nThe ""Vaults""."\n"{RECORD}",Dear.\nname[A],A.\n'
RECORDS = (
    Described(SOURCE, ('Near Café Adriatic,\nThe "Vaults".', "Dear.")),
    Described("name : A", ("A.",)),
)


def saved(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def test_records_come_with_all_their_texts(tmp_path: Path) -> None:
    of = e2e.load(saved(tmp_path, trainset=CSV, devset="mr,ref\nname[B],B.\n"))
    assert of.train == RECORDS
    assert of.test == (Described("name : B", ("B.",)),)
    assert set(of.digests) == {"trainset.csv", "devset.csv"}
    assert (of.name, of.metric, of.higher_is_better) == ("e2e", "bleu", True)
    saved(tmp_path, testset_w_refs=CSV)
    assert e2e.load(tmp_path).test == RECORDS


@pytest.mark.usefixtures("hub_cache")
def test_the_hub_has_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(RECORD, text) for text in RECORDS[0].references] + [("name[A]", "A.")]
    rows = [dict(zip(e2e.HUB_COLUMNS, pair, strict=True)) for pair in pairs]
    splits = {("default", "train"): rows, ("default", "test"): rows}
    monkeypatch.setattr(e2e, "HUB", str(save_hub(tmp_path / "hub", splits, {})))
    of = e2e.load()
    assert of.train == of.test == RECORDS
    assert len(of.digests) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("meaning,ref\na,b\n", r"line 1: expected one column 'mr', came 'meaning, ref'"),
        ("mr,ref\n", r"has a header and no rows"),
        (
            "mr,ref\nname[A],A.\nname(B),B.\n",
            r"line 3: expected attributes, as name\[The Mill\], food\[French\], as mr, "
            r"came 'name\(B\)'",
        ),
        ("mr,ref\nname[A,A.\n", r"line 2: expected attributes"),
        ("mr,ref\nname[A], x,A.\n", r"line 2: expected 2 fields, came 3"),
        ('mr,ref\n"name[A], x",A.\n', r"line 2: expected attributes"),
        ("mr,ref\nname[A], \n", r"line 2: expected one text or more, of words, for a source"),
        (f"{CSV}name[A]", r"line 6: expected 2 fields, came 1"),
        ('mr,ref\n" [A]",A.\n', r"line 2: expected attributes"),
        (f'mr,ref\n"{", ".join(["a[b]"] * 9000)};",A.\n', r"line 2: expected attributes"),
    ],
)
def test_what_is_no_record_and_text_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    folder = saved(tmp_path, trainset=CSV, devset=text)
    file = re.escape(str(folder / "devset.csv"))
    with pytest.raises(TaskError, match=rf"\A{file}.*{message}.*\Z"):
        e2e.load(folder)


def seconds_of_reading(record: re.Pattern[str], attributes: int) -> float:
    text = f"{', '.join(['a[b]'] * attributes)};"
    return min(timeit.repeat(lambda: record.fullmatch(text), number=1, repeat=5))


def test_a_record_is_read_in_linear_time() -> None:
    assert seconds_of_reading(e2e.RECORD, 20_000) < 2
    # the control: a blank that two parts of the pattern may take doubles the time with each
    attribute = r" *([^\[\],]+)\[([^\[\]]*)\]"
    exponential = re.compile(f"{attribute}(,{attribute})*")
    assert seconds_of_reading(exponential, 16) > 8 * seconds_of_reading(exponential, 10)


def test_the_cleaned_files_go_by_their_own_names(tmp_path: Path) -> None:
    for name in ("train-fixed.no-ol.csv", "devel-fixed.no-ol.csv"):
        (tmp_path / name).write_text("mr,ref,fixed\nname[A],A.,1\n")
    assert e2e.load(tmp_path).test == (Described("name : A", ("A.",)),)


def test_a_set_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path, trainset=CSV)
    with pytest.raises(TaskError, match=r"holds none of testset_w_refs\.csv, .*devset\.csv, "):
        e2e.load(folder)


def test_the_shared_files_have_their_rows(shared_data: Path) -> None:
    of = e2e.load(shared_data / "e2e")
    counts = [(len(rows), sum(len(row.references) for row in rows)) for rows in (of.train, of.test)]
    assert counts == [(4028, 9009), (547, 4672)]
    best = [row.references[0] for row in of.test]
    references = [row.references for row in of.test]
    assert compare(best, references) == {"bleu": 1.0, "rouge_l": 1.0}
    others = compare([*best[1:], best[0]], references)
    assert others["bleu"] < 0.9


# ------------------------------------------------------------------ triples

TRIPLES = [[["Ada", "born in", "London"], ["Ada", "died in", "Paris"]], [["Bob", "age", ""]]]
TEXTS_OF = [["Ada went from London to Paris.", "Ada died in Paris."], ["Bob has no age."]]
STATED = (
    Described("Ada | born in | London && Ada | died in | Paris", tuple(TEXTS_OF[0])),
    Described("Bob | age | ", tuple(TEXTS_OF[1])),
)


def plain() -> list[Any]:
    pairs = zip(TRIPLES, TEXTS_OF, strict=True)
    return [{"triples": own, "references": texts} for own, texts in pairs]


def dart(annotations: Callable[[Sequence[str]], object]) -> list[Any]:
    return [
        {"tripleset": own, "subtree_was_extended": False, "annotations": annotations(texts)}
        for own, texts in zip(TRIPLES, TEXTS_OF, strict=True)
    ]


def listed(texts: Sequence[str]) -> list[dict[str, str]]:
    return [{"source": "test", "text": text} for text in texts]


def webnlg_json() -> dict[str, Any]:
    """As in the release of WebNLG: each entry under its number."""
    names = ("subject", "property", "object")
    return {
        "entries": [
            {
                str(number): {
                    "category": "Person",
                    "originaltriplesets": {"originaltripleset": [[]]},
                    "modifiedtripleset": [dict(zip(names, each, strict=True)) for each in own],
                    "lexicalisations": [{"comment": "good", "lang": "", "lex": t} for t in said],
                }
            }
            for number, (own, said) in enumerate(zip(TRIPLES, TEXTS_OF, strict=True), start=1)
        ]
    }


def webnlg_xml(*russian: str) -> str:
    """As in the release of WebNLG; each entry has texts in Russian, too, if they are given."""
    entries = []
    for own, said in zip(TRIPLES, TEXTS_OF, strict=True):
        triples_of = "".join(f"<mtriple>{' | '.join(each)}</mtriple>" for each in own)
        texts = "".join(f'<lex comment="good" lid="Id" lang="en">{text}</lex>' for text in said)
        texts += "".join(f'<lex lid="Id" lang="ru">{text}</lex>' for text in russian)
        entries.append(
            '<entry category="Person" eid="Id1" size="2"><originaltripleset><otriple>x | y | z'
            f"</otriple></originaltripleset><modifiedtripleset>{triples_of}</modifiedtripleset>"
            f"{texts}</entry>"
        )
    return f"<benchmark><!-- v3 --><entries>{''.join(entries)}</entries></benchmark>"


LAYOUTS: dict[str, str] = {
    "train.xml": webnlg_xml(),
    "train.json": json.dumps(plain()),
    "dart-v1.1.1-full-train.json": json.dumps(dart(listed)),
    "train.csv": "text,triples\n"
    "Ada went from London to Paris.,Ada|born in|London&&Ada | died in | Paris\n"
    "Bob has no age.,Bob | age | \n"
    "Ada died in Paris.,Ada | born in | London && Ada | died in | Paris\n",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_has_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LAYOUTS[name])
    (tmp_path / "valid.json").write_text(json.dumps(plain()[1:]))
    of = triples.load(tmp_path)
    assert of.train == STATED
    assert of.test == STATED[1:]
    assert set(of.digests) == {name, "valid.json"}
    assert of.split == "validation"
    (tmp_path / name.replace("train", "test")).write_text(LAYOUTS[name])
    tested = triples.load(tmp_path)
    assert (tested.test, tested.split) == (STATED, "test")
    assert (of.name, of.metric) == ("triples", "bleu")


def test_the_release_of_webnlg_is_read_as_json_and_as_folders_of_xml(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps(webnlg_json()))
    empty = "<benchmark><entries></entries></benchmark>"
    for size, text in (("1triples", empty), ("2triples", webnlg_xml())):
        (tmp_path / "test" / size).mkdir(parents=True)
        (tmp_path / "test" / size / "Person.xml").write_text(text)
    of = triples.load(tmp_path)
    assert of.train == of.test == STATED
    names = {"train.json", "test/1triples/Person.xml", "test/2triples/Person.xml"}
    assert set(of.digests) == names


def test_beside_texts_in_another_language_english_ones_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "train.xml").write_text(webnlg_xml("Боб."))
    (tmp_path / "test.xml").write_text(webnlg_xml())
    of = triples.load(tmp_path)
    assert [row.references for row in of.train] == [("Боб.",), ("Боб.",)]
    assert of.test == STATED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<benchmark><entry>", "expected XML, came"),
        (
            '<!DOCTYPE b [<!ENTITY a "aaaa">]><b><entry><lex>&a;</lex></entry></b>',
            "expected XML without declarations",
        ),
        ("<b><entry><mtriple>a | b | c</mtriple></entry></b>", "expected one text or more"),
        ("<b><entry><lex>a</lex></entry></b>", "entry 1: expected a list of triples"),
    ],
)
def test_xml_that_is_no_webnlg_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.xml").write_text(webnlg_xml())
    (tmp_path / "test.xml").write_text(text)
    with pytest.raises(TaskError, match=message) as caught:
        triples.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("hub_cache")
def test_the_hub_has_the_same_triples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dart(lambda texts: {"source": ["test"] * len(texts), "text": list(texts)})
    splits = {("default", "train"): rows, ("default", "test"): rows}
    monkeypatch.setattr(triples, "HUB", str(save_hub(tmp_path / "hub", splits, {})))
    assert triples.load().train == triples.load().test == STATED


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, r"\$: expected a list as the file, came \{\}"),
        ([3], r"\$\[0\]: expected an object, came 3"),
        ([*plain(), {"triple": []}], r"\$\[2\]: expected triples, or a tripleset, among its names"),
        ([{"triples": []}], r"\$\[0\]: expected a list of triples, came \[\]"),
        ([{"triples": "a"}], r"\$\[0\]: expected a list of triples, came 'a'"),
        (
            [{"triples": [["a", "b"]]}],
            r"\$\[0\]: expected a subject, a predicate and an object, came \['a', 'b'\]",
        ),
        ([{"triples": [["a", "b", 3]]}], r"\$\[0\]: expected a subject, a predicate and an object"),
        ([{"triples": [["a", "b", "c"]]}], r"\$\[0\]: expected a list of texts as references"),
        (
            [{"triples": [["a", "b", "c"]], "references": []}],
            r"\$\[0\]: expected one text or more, of words, for a source, came \[\]",
        ),
        (
            [{"tripleset": [["a", "b", "c"]], "annotations": [{"source": "x"}]}],
            r"\$\[0\]\.annotations\[0\]: expected a text as text, came None",
        ),
    ],
)
def test_what_is_no_triples_and_texts_is_one_line(
    tmp_path: Path, value: object, message: str
) -> None:
    (tmp_path / "train.json").write_text(json.dumps(plain()))
    file = tmp_path / "test.json"
    file.write_text(json.dumps(value))
    with pytest.raises(TaskError, match=rf"\A{re.escape(str(file))}, {message}.*\Z"):
        triples.load(tmp_path)


def test_a_triple_of_two_parts_in_csv_is_one_line(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("triples,text\na | b | c && d | e,x\n")
    with pytest.raises(
        TaskError, match=r"line 2: expected a subject, a predicate and an object, came \[' d ', "
    ):
        triples.load(tmp_path)
