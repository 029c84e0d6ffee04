"""Runs on tiny decoders: what the folder holds is what run.json says, killed or not."""

import io
import multiprocessing
import os
import signal
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pins import masks as mask_files
from pins.errors import FileError, PinsError
from pins.models import weight_files
from pins.models.digests import model_digest
from pins.oneshot import command, folder
from pins.oneshot.command import run_oneshot
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.oneshot.methods.method import ScoreMethod
from pins.oneshot.methods.registry import METHODS
from pins.oneshot.run import OneShot
from pins.oneshot.settings import Settings
from pins.oneshot.text import drawn
from pins.selection.constraints import keep_count
from pins.utils.io import write_json
from tests.pins.oneshot.runs import contents, perplexity, run
from tests.pins.oneshot.tiny_decoders import network, save_decoder, save_text, tokenizer
from verification.certificates.run import certify_run
from verification.checker import Outcome, check

pytest.importorskip("transformers", reason="the models are those of transformers")

FORK = multiprocessing.get_context("fork")  # a process of another kind first imports for seconds
RUNS: dict[str, dict[str, Any]] = {
    "Llama": {"method": "wanda", "sparsity": 0.6},
    "GPT2": {"method": "sparsegpt", "test_windows": 3},
    "OPT": {"method": "ria", "sparsity": 0.3, "scope": "tensor", "refit": True, "stride": 5},
    "GPT2 of 2:4": {"method": "wanda", "pattern": "2:4"},
    "GPT2 by swaps": {"method": "obs", "pattern": "2:4", "sparsity": 0.6, "swaps": True},
    "Mistral": {"method": "magnitude", "pattern": "2:4", "sparsity": 0.7},
    "Llama by gradients": {"method": "pins", "scope": "global", "learning_rate": 0.1},
    "GPT2 by gradients": {"method": "trust-region", "sparsity": 0.3, "scope": "global"},
    "OPT by gradients": {"method": "obd", "scope": "global", "swaps": True},
    "Mistral by gradients": {"method": "sensitivity", "pattern": "2:4", "sparsity": 0.8},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    for kind in RUNS:
        save_decoder(place / kind, kind.split()[0], shard="10KB" if " " in kind else "1GB")
    # names as in the first files of GPT-2, and a buffer that is no longer read
    file = place / "GPT2" / "model.safetensors"
    tensors = {n.removeprefix("transformer."): t for n, t in load_file(file).items()}
    save_file({**tensors, "h.0.attn.bias": torch.ones(1)}, file, metadata={"format": "pt"})
    save_text(place / "text.txt")
    return place


def settings_of(inputs: Path, kind: str, **changes: Any) -> Settings:
    usual: dict[str, Any] = {
        "model": str(inputs / kind), "task": "text", "data": inputs / "text.txt",
        "calibration": 4, "length": 16, "device": "cpu",
    }  # fmt: skip
    return Settings(**{**usual, **changes})


@torch.no_grad()
def loss_of(model: Any, text: str, settings: Settings) -> float:
    """The mean loss of the calibration windows, from the logits of the whole model."""
    windows = drawn(text, tokenizer(), settings.length, settings.calibration, settings.seed)
    tokens = torch.cat(windows.tokens)
    logs = model(input_ids=tokens).logits[:, :-1].double().log_softmax(-1)
    return -float(logs.gather(2, tokens[:, 1:, None]).mean())


def views(model: nn.Module, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """The masks as (outputs, inputs)."""
    named = {f"{name}.weight": module for name, module in model.named_modules()}
    return {n: m if isinstance(named[n], nn.Linear) else m.T for n, m in masks.items()}


def require_counts(settings: Settings, masks: dict[str, Tensor]) -> None:
    sparsity = settings.final_sparsity()
    for mask in masks.values():
        if settings.pattern:
            groups = mask.reshape(-1, 4).sum(1)
            assert (groups <= 2).all()
            assert settings.sparsity is not None or (groups == 2).all()
        elif settings.scope == "tensor":
            assert mask.count_nonzero() == keep_count(sparsity, mask.numel())
        if settings.scope == "row":
            assert (mask.sum(1) == keep_count(sparsity, mask.shape[1])).all()
    if settings.scope == "global":
        kept, total = (sum(int(f(m)) for m in masks.values()) for f in (torch.sum, torch.numel))
        assert kept == keep_count(sparsity, total)
        counts = [int(mask.sum()) / mask.numel() for mask in masks.values()]
        assert max(counts) - min(counts) > 0.05, "layers keep shares of their own"


def stored(place: Path) -> set[str]:
    return {name for file in place.glob("model*.safetensors") for name in load_file(file)}


@pytest.mark.parametrize("kind", RUNS)
def test_the_folder_holds_the_model_that_run_json_describes(
    kind: str, inputs: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings, out = settings_of(inputs, kind, **RUNS[kind]), tmp_path / "out"
    facts = run(settings, out)
    model, dense = AutoModelForCausalLM.from_pretrained(out), network(kind.split()[0])
    assert AutoTokenizer.from_pretrained(out)("t3 t4")["input_ids"] == [3, 4]

    lines = (inputs / "text.txt").read_text().splitlines(keepends=True)
    test = "".join(lines[-len(lines) // 10 :])
    stated = facts["perplexity"]
    assert stated["dense"] == pytest.approx(perplexity(dense, test, facts), rel=1e-5)
    assert stated["sparse"] == pytest.approx(perplexity(model, test, facts), rel=1e-5)
    assert stated["sparse"] != pytest.approx(stated["dense"], rel=1e-3)
    width, stride = stated["context"], stated["stride"]
    rest = [stride if stride < width else width - 1] * (stated["windows"] - 1)
    for name, losses in stated["losses"].items():
        total = sum(loss * n for loss, n in zip(losses, [width - 1, *rest], strict=True))
        assert exp(total / stated["tokens"]) == pytest.approx(stated[name], rel=1e-12)
    assert (stated["context"], stated["stride"]) == (16, RUNS[kind].get("stride", 16))
    assert len(stated["text_sha256"]) == 64
    assert facts["model_sha256"] == model_digest(inputs / kind)
    assert facts["settings"] == settings.as_json()

    masks = mask_files.load(out / "masks.safetensors")
    assert stored(out) == stored(inputs / kind)
    before, after = dict(dense.named_parameters()), dict(model.named_parameters())
    assert before.keys() == after.keys() > masks.keys()
    for name, parameter in after.items():
        if name not in masks:
            assert torch.equal(parameter, before[name]), name
            continue
        assert torch.equal(parameter != 0, masks[name]), name
        changed = settings.refit or settings.swaps or settings.method in ("sparsegpt", "obs")
        same = torch.equal(parameter[masks[name]], before[name][masks[name]])
        assert same != changed, name
    require_counts(settings, views(model, masks))
    kept, total = (sum(int(f(m)) for m in masks.values()) for f in (torch.sum, torch.numel))
    assert facts["weights"] == {"kept": kept, "prunable": total}

    method = METHODS[settings.method]
    blocks = [report["block"] for report in facts["blocks"]]
    proved = blocks if isinstance(method, ScoreMethod) else []
    decided = isinstance(method, GradientMethod)
    expected = [] if settings.swaps else ["all"] if decided else proved
    assert list(facts["certificates"]) == expected
    for certificate in facts["certificates"].values():
        assert check(out / certificate).outcome is Outcome.PROVED
    layers = [layer for report in facts["blocks"] for layer in report["layers"].values()]
    assert {layer["vectors"] for layer in layers} == {4 * 16}
    assert all(0 < layer["relative_error"] < 1 for layer in layers)
    train, change = "".join(lines[: -len(lines) // 10]), facts["loss_change"]
    for name, network_ in (("dense", dense), ("sparse", model)):
        assert change[name] == pytest.approx(loss_of(network_, train, settings), rel=1e-5)
    assert change["measured"] == change["sparse"] - change["dense"]
    assert (change["predicted"] is not None) == decided
    if decided:
        assert facts["decision"]["loss"] == pytest.approx(change["dense"], rel=1e-5)
    assert f"{stated['sparse']:.3f}" in (out / "README.md").read_text()
    assert not [*out.rglob(".*")]


def test_a_global_decision_is_that_of_scores_of_the_whole_text(
    inputs: Path, tmp_path: Path
) -> None:
    """In float64, each kept score is at least each pruned one; not so of other scores."""
    settings = settings_of(inputs, "GPT2 by gradients", method="pins", scope="global")
    one = OneShot(settings, tmp_path)
    one.folder.begin(settings.as_json(), resume=False)
    one.decide()
    masks = mask_files.load(tmp_path / "blocks" / "all.masks.safetensors")
    model = network("GPT2").double()
    tokens = torch.cat(one.calibration.tokens)
    logs = model(input_ids=tokens).logits[:, :-1].log_softmax(-1)
    (-logs.gather(2, tokens[:, 1:, None]).mean()).backward()
    named = dict(model.named_parameters())
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    for sign, optimal in ((-1, True), (1, False)):
        scores = torch.cat([(sign * named[n].grad * named[n]).flatten() for n in masks])
        least, most = scores[kept].min(), scores[~kept].max()
        assert (least >= most - 1e-6 * scores.abs().max()) == optimal


@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_all_weights_are_kept_or_none(sparsity: float, inputs: Path, tmp_path: Path) -> None:
    changes = {"method": "trust-region", "scope": "global", "sparsity": sparsity}
    facts = run(settings_of(inputs, "Llama", **changes), tmp_path)
    kept, total = facts["weights"].values()
    assert kept == (1 - sparsity) * total
    assert check(tmp_path / "blocks" / "all.certificate.json").outcome is Outcome.PROVED
    assert (facts["loss_change"]["measured"] == 0) == (sparsity == 0)
    assert (facts["loss_change"]["predicted"] == 0) == (sparsity == 0)


def test_a_certificate_of_another_mask_is_refuted(inputs: Path, tmp_path: Path) -> None:
    run(settings_of(inputs, "Llama"), tmp_path)
    file = tmp_path / "blocks" / "00.masks.safetensors"
    masks = mask_files.load(file)
    first = next(iter(masks.values()))
    first[0] = first[0].flip(0)
    mask_files.save(masks, file)
    assert check(tmp_path / "blocks" / "00.certificate.json").outcome is Outcome.REFUTED
    assert check(tmp_path / "blocks" / "01.certificate.json").outcome is Outcome.PROVED


def test_a_block_reads_what_the_pruned_blocks_before_it_give(inputs: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    settings = settings_of(inputs, "Llama")
    one = OneShot(settings, tmp_path)
    one.folder.begin(settings.as_json(), resume=False)
    assert len([*one.blocks()]) == 2
    one.folder.finish()
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    name, read = "model.layers.1.self_attn.q_proj", list[Tensor]()
    layer = model.get_submodule(name)
    layer.register_forward_pre_hook(lambda _, given: read.append(given[0][0]))
    for tokens in one.calibration.tokens:
        model(input_ids=tokens)
    norms = torch.cat(read).double().square().sum(0).sqrt()
    weight = network("Llama").get_submodule(name).weight
    scores = load_file(tmp_path / "blocks" / "01.scores.safetensors")[f"{name}.weight"]
    assert torch.allclose(scores.double(), weight.abs().double() * norms, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "by"), [(torch.bfloat16, False), (torch.float16, True)], ids=["sparsegpt", "pins"]
)
def test_weights_of_16_bits_stay_so_and_errors_are_of_what_is_stored(
    dtype: torch.dtype, by: bool, inputs: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    save_decoder(model)
    network("Llama").to(dtype).save_pretrained(model)
    settings = settings_of(inputs, "Llama", model=str(model), method="pins" if by else "sparsegpt")
    run(settings, tmp_path / "out")
    before, after = load_file(model / "model.safetensors"), dict[str, Tensor]()
    for file in (tmp_path / "out").glob("model-*.safetensors"):
        after |= load_file(file)
    assert before.keys() == after.keys()
    assert {each.dtype for each in after.values()} == {dtype}
    ranked = load_file(tmp_path / "out" / "blocks" / "all.scores.safetensors") if by else {}
    assert {each.dtype for each in ranked.values()} <= {torch.float32}
    for name, mask in mask_files.load(tmp_path / "out" / "masks.safetensors").items():
        assert not after[name][~mask].any()


def killed(number: int, settings: Settings, out: Path) -> None:
    """A run, killed before it writes its JSON file of that number."""
    torch.set_num_threads(1)
    left = number

    def before(value: object, path: Path) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        write_json(value, path)

    patch = pytest.MonkeyPatch()
    for module in (folder, weight_files, command):
        patch.setattr(module, "write_json", before)
    run(settings, out)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["Llama", "GPT2 of 2:4"])
def test_a_run_that_was_killed_goes_on_to_the_same_files(
    kind: str, number: int, inputs: Path, tmp_path: Path
) -> None:
    # the settings, a block, another block, the index of the model, run.json
    settings, out = settings_of(inputs, kind, **RUNS[kind], refit=True), tmp_path / "out"
    process = FORK.Process(target=killed, args=(number, settings, out))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    done = len([*out.glob("blocks/0?.json")])
    assert done == min(max(number - 2, 0), 2)
    assert not (out / "run.json").exists()
    seen = []

    def certify(decision: Any) -> str:
        seen.append(decision.certificate.name)
        return certify_run(decision)

    whole = run(settings, tmp_path / "whole")
    facts = run(settings, out, resume=True, certify=certify)
    assert contents(out) == contents(tmp_path / "whole")
    assert len(seen) == 2 - done
    for name in ("perplexity", "weights", "relative_error", "certificates", "calibration"):
        assert facts[name] == whole[name], name


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("number", [2, 3])
def test_a_decision_over_all_blocks_is_made_once(
    number: int, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is killed before the decision is complete, and before a block is."""
    kind = "GPT2 by gradients"
    settings, out = settings_of(inputs, kind, **RUNS[kind]), tmp_path / "out"
    process = FORK.Process(target=killed, args=(number, settings, out))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    whole = run(settings, tmp_path / "whole")
    if number > 2:
        monkeypatch.delattr("pins.oneshot.run.decide_model")
    facts = run(settings, out, resume=True)
    assert contents(out) == contents(tmp_path / "whole")
    for name in ("loss_change", "weights", "certificates"):
        assert facts[name] == whole[name], name


def test_a_run_that_is_done_is_told_again_and_not_repeated(inputs: Path, tmp_path: Path) -> None:
    settings = settings_of(inputs, "Llama")
    facts = run(settings, tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert run(settings, tmp_path, resume=True) == facts
    assert before == {file: file.stat().st_mtime_ns for file in before}


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("what", ["model", "data"])
def test_a_run_does_not_go_on_with_other_inputs(
    what: str, done: bool, inputs: Path, tmp_path: Path
) -> None:
    model, data = save_decoder(tmp_path / "model"), save_text(tmp_path / "text.txt")
    settings = settings_of(inputs, "Llama", model=str(model), data=data)
    run(settings, tmp_path / "out")
    if not done:
        (tmp_path / "out" / "run.json").unlink()
    if what == "model":
        network("Llama", rms_norm_eps=1e-3).save_pretrained(model)
    else:
        save_text(data, lines=61)
    with pytest.raises(FileError, match=r"holds a run whose (model|text)_sha256 is"):
        run(settings, tmp_path / "out", resume=True)


def test_it_stops_from_the_keyboard_and_goes_on(
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(_: Any) -> str:
        raise KeyboardInterrupt

    settings = settings_of(inputs, "Llama")
    assert run_oneshot(Console(file=io.StringIO()), settings, tmp_path, certify=stop) == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err
    assert len(run(settings, tmp_path, resume=True)["certificates"]) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["up_proj", "down_proj"])
def test_a_model_with_broken_numbers_names_the_layer(
    name: str, method: str, inputs: Path, tmp_path: Path
) -> None:
    model = network("Llama")
    with torch.no_grad():
        model.model.layers[0].mlp.get_submodule(name).weight[0, 0] = torch.nan
    save_decoder(tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    settings = settings_of(inputs, "Llama", model=str(tmp_path / "model"), method=method)
    # the layer after it reads them, or its own scores show them; gradients are of all layers
    by_gradients = isinstance(METHODS[method], GradientMethod)
    said = r"calibration window 1 of 4 is nan: the" if by_gradients else r"mlp\.down_proj"
    with pytest.raises(PinsError, match=said):
        run(settings, tmp_path / "out")
