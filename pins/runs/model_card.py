"""The model card of a run: README.md of the folder, front matter for the hub, numbers for readers.

Every number is one of the run's facts. Names of files are relative to the folder, and a model that
was loaded from a folder is called by the folder's last name: no path of the machine gets in.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pins.errors import ModelError, SettingError
from pins.models.heads import HEADS
from pins.runs.costs import percent, rows
from pins.runs.latency import ZEROS
from pins.utils.repository import install_command, linked

PIPELINES = {
    "classification": "text-classification",
    "regression": "text-classification",
    "tokens": "token-classification",
    "span": "question-answering",
    "causal": "text-generation",
    "seq2seq": "text-generation",
}  # head → the hub's name of the task
HUB_METRICS = {
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}  # where the hub's name is another
NEEDED = {"settings": ("model", "task", "sparsity"), "head": (), "costs": ("weights",)}
TAGS = ["pins", "pruning", "sparse", "unstructured-sparsity"]

SETTINGS = {
    "criterion": "criterion",
    "smoothing": "smoothing of the scores",
    "curvature": "curvature",
    "radius": "radius, as a share of the loss",
    "schedule": "schedule",
    "steps": "steps",
    "warmup": "of these at full density",
    "cooldown": "of these at the final sparsity",
    "interval": "steps from one decision to the next",
    "scope": "scope of a decision",
    "self_regularization": "self-regularisation",
    "optimizer": "optimiser",
    "learning_rate": "learning rate",
    "batch_size": "rows of a step",
    "seed": "seed",
}  # of the run → in words


def model_card(facts: Mapping[str, Any]) -> str:
    """The text of README.md.

    Args:
        facts: JSON values of the run, by key. Needed:

            settings: of the run, as `Settings.as_json` gives them; `model`, `task` and
                `sparsity` are needed, those of `SETTINGS` get a line each where they are there.
            head: a name of `pins.models.heads.HEADS`.
            costs: as `pins.runs.costs.Costs.as_json` gives them.

            Each of these gets its lines, or is left out:

            scores: {"sparse": {metric: value}, "dense": the same metrics of a model that was not
                pruned, "split": name, "rows": number}; the last three may be missing.
            data: {file: SHA-256} of the task's data.
            weights_sha256: {file: SHA-256} of the base model's weights.
            versions: {package: version}.
            certificate: {"file": name, "sentence": what it proves}.
            mask: name of the mask's file.
            packed: name of the packed file.
            language, license: for the front matter.

    Raises:
        ModelError: huggingface_hub is not installed.
        SettingError: a fact that is needed is missing, or there is no such head.
    """
    _require(facts)
    parts = ["\n".join(part(facts)) for part in (_summary, _scores, _run, _costs, _use, _limits)]
    body = "\n\n".join(part for part in parts if part)
    return f"---\n{_front_matter(facts)}\n---\n\n{body}\n"


def _require(facts: Mapping[str, Any]) -> None:
    for key, inner in NEEDED.items():
        for name in (key, *(f"{key}/{each}" for each in inner)):
            value: Any = facts
            for step in name.split("/"):
                value = value.get(step) if isinstance(value, Mapping) else None
            if value is None:
                raise SettingError(f"model_card() was given no fact {name!r}: see its docstring")
    if facts["head"] not in HEADS:
        raise SettingError(f"head is {facts['head']!r}: it is one of {', '.join(HEADS)}")


def _front_matter(facts: Mapping[str, Any]) -> str:
    """YAML as the hub reads it."""
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError as error:
        raise ModelError(
            f"huggingface_hub is not installed: run {install_command('prune')}"
        ) from error
    base, task, pipeline = facts["settings"]["model"], facts["settings"]["task"], _pipeline(facts)
    scores = facts.get("scores") or {"sparse": {}}
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=task,
            dataset_name=task,
            dataset_split=scores.get("split"),
            metric_type=HUB_METRICS.get(metric, metric),
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in scores["sparse"].items()
    ]
    data = ModelCardData(
        base_model=base if _is_hub_id(base) else None,
        eval_results=results or None,
        language=facts.get("language"),
        library_name="transformers",
        license=facts.get("license"),
        metrics=[result.metric_type for result in results] or None,
        model_name=_title(facts),
        pipeline_tag=pipeline,
        tags=TAGS,
    )
    return str(data.to_yaml())


def _summary(facts: Mapping[str, Any]) -> Iterator[str]:
    weights, settings = facts["costs"]["weights"], facts["settings"]
    pruned = weights["prunable"] - weights["kept"]
    yield f"# {_title(facts)}"
    yield ""
    yield (
        f"`{_last(settings['model'])}`, fine-tuned on `{settings['task']}` and pruned by "
        f"{linked('PINS')}: {weights['kept']:,} of {weights['prunable']:,} prunable weights are "
        f"kept, {pruned:,} are zero, a sparsity of {percent(pruned, weights['prunable'])} "
        f"({percent(pruned, weights['parameters'])} of all {weights['parameters']:,} parameters). "
        f"{_decimal(settings['sparsity'])} was asked for."
    )
    if certificate := facts.get("certificate"):
        yield ""
        yield f"{_sentence(certificate['sentence'])} The proof: `{_last(certificate['file'])}`."


def _scores(facts: Mapping[str, Any]) -> Iterator[str]:
    if scores := facts.get("scores"):
        dense = scores.get("dense") or {}
        where = [str(scores["split"])] if "split" in scores else []
        where += [f"{scores['rows']:,} rows"] if "rows" in scores else []
        yield "## Scores"
        yield ""
        if where:
            yield f"On {', '.join(where)}."
            yield ""
        yield from _table(
            ("metric", "pruned", "dense, fine-tuned without pruning")
            if dense
            else ("metric", "pruned"),
            (
                (metric, *(f"{each[metric]:.4f}" for each in (scores["sparse"], dense) if each))
                for metric in scores["sparse"]
            ),
        )


def _run(facts: Mapping[str, Any]) -> Iterator[str]:
    settings = facts["settings"]
    yield "## The run"
    yield ""
    yield f"- base model: `{_last(settings['model'])}`"
    for file, digest in facts.get("weights_sha256", {}).items():
        yield f"- its `{_last(file)}`: SHA-256 `{digest}`"
    yield f"- task: `{settings['task']}`"
    for key, words in SETTINGS.items():
        if settings.get(key) is not None:
            value = settings[key]
            yield f"- {words}: {('no', 'yes')[value] if isinstance(value, bool) else value}"
    for file, digest in facts.get("data", {}).items():
        yield f"- data `{_last(file)}`: SHA-256 `{digest}`"
    if versions := facts.get("versions"):
        yield "- " + ", ".join(f"{package} {version}" for package, version in versions.items())


def _costs(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "## What it costs"
    yield ""
    yield from _table(("what", "measured", "remark"), rows(facts["costs"]))


def _use(facts: Mapping[str, Any]) -> Iterator[str]:
    auto_class = HEADS[facts["head"]].auto_class
    yield "## How to use it"
    yield ""
    yield "It is an ordinary model of transformers; in this folder:"
    yield ""
    yield "```python"
    yield f"from transformers import {auto_class}, AutoTokenizer"
    yield ""
    yield f'model = {auto_class}.from_pretrained(".")'
    yield 'tokenizer = AutoTokenizer.from_pretrained(".")'
    yield "```"
    yield ""
    yield "To go on with fine-tuning and keep the zeros:"
    yield ""
    yield "```python"
    yield "from pins.trainer import PruningCallback"
    yield "from transformers import Trainer"
    yield ""
    yield "trainer = Trainer(model=model, callbacks=[PruningCallback(keep_zeros=True)])"
    yield "```"
    if certificate := facts.get("certificate"):
        yield ""
        yield "To check the proof, where PINS is installed (exit code 0: proved, 1: refuted):"
        yield ""
        yield "```sh"
        yield f"pins check {_last(certificate['file'])}"
        yield "```"
    if mask := facts.get("mask"):
        yield ""
        yield f"The mask is `{_last(mask)}`, for `pins.masks.load`."
    if packed := facts.get("packed"):
        yield ""
        yield (
            f"`{_last(packed)}` holds the same weights as a bit mask and the kept values (in the "
            "layout `sparse-bitmask` of compressed-tensors); `pins unpack` makes the dense file of "
            "it again, bit for bit."
        )


def _limits(facts: Mapping[str, Any]) -> Iterator[str]:
    latency = facts["costs"].get("latency")
    yield "## What is not promised"
    yield ""
    yield (
        "- Optimal, where it is said of the mask, means: for the linear model of the scores, max "
        "s·m with as many weights kept. It says nothing of the loss."
    )
    reason = latency["verdict"] if latency else ZEROS
    yield f"- No speed-up is promised. As dense matrices: {reason}."
    if latency and latency.get("csr"):
        yield f"  As sparse matrices (CSR), on the device named: {latency['csr_verdict']}."
    yield "- No smaller `model.safetensors`: zeros take as much room in it as other numbers."
    yield "- The scores are of one run and one seed, on the rows named."


def _title(facts: Mapping[str, Any]) -> str:
    settings, weights = facts["settings"], facts["costs"]["weights"]
    sparsity = percent(weights["prunable"] - weights["kept"], weights["prunable"])
    digits = sparsity.removesuffix(" %").removesuffix(".00")
    return f"{_last(settings['model'])}-{settings['task']}-pruned-{digits}"


def _pipeline(facts: Mapping[str, Any]) -> str:
    return PIPELINES[facts["head"]]


def _is_hub_id(model: str) -> bool:
    """`owner/name` or `name`, as the hub allows them, and no folder here."""
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", model) is not None and not Path(model).is_dir()


def _last(path: str) -> str:
    """The last name of a path, of whichever system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _decimal(sparsity: float) -> str:
    return f"{100 * sparsity:.10g} %"


def _sentence(text: str) -> str:
    """One line that begins with a capital and ends with a full stop."""
    line = " ".join(text.split()).rstrip(".")
    return f"{line[:1].upper()}{line[1:]}."


def _table(headings: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table."""
    for line in (headings, ("---",) * len(headings), *lines):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
