"""The model card of a run: README.md of the folder, with front matter for the hub.

Every number is a fact of run.json. File names are relative to the folder, and a model that was
loaded from a folder is named after the folder's last part: no path of the machine appears.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pins.errors import ModelError
from pins.models.heads import HEADS
from pins.runs.costs import percent, rows
from pins.utils.repository import install_command, linked

PIPELINES = {
    "classification": "text-classification",
    "regression": "text-classification",
    "tokens": "token-classification",
    "span": "question-answering",
    "causal": "text-generation",
    "seq2seq": "text-generation",
}  # head → name of the task on the hub
HUB_METRICS = {
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}  # metric → name on the hub, if it differs
TAGS = ["pins", "pruning", "sparse"]
STRUCTURES = {"pattern": "n-m-sparsity", "block": "block-sparsity"}  # setting → tag

SETTINGS = {
    "criterion": "criterion",
    "smoothing": "smoothing of the scores",
    "curvature": "curvature",
    "radius": "radius, as a share of the loss",
    "schedule": "schedule",
    "steps": "steps",
    "warmup": "of these before the first decision",
    "cooldown": "of these at the final sparsity",
    "interval": "steps from one decision to the next",
    "scope": "scope of a decision",
    "self_regularization": "self-regularisation",
    "optimizer": "optimiser",
    "learning_rate": "learning rate",
    "batch_size": "rows of a step",
    "seed": "seed",
}  # setting → its name in the card; of others it is their own
# said elsewhere in the card, a path of this machine, or without effect on the model
ELSEWHERE = ("model", "task", "data", "sparsity", "device", "checkpoint_every")


USE = """## How to use it

It is an ordinary model of transformers; in this folder:

```python
from transformers import {auto_class}, AutoTokenizer

model = {auto_class}.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
```
{prompt}
To go on with fine-tuning and keep the zeros:

```python
from pins.trainer import PruningCallback
from transformers import Trainer

trainer = Trainer(model=model, callbacks=[PruningCallback(keep_zeros=True)])
```
{check}
The mask is `{mask}`, for `pins.masks.load`.

`{packed}` holds the same weights as a bit mask and the kept values (in the layout \
`sparse-bitmask` of compressed-tensors); `pins unpack` makes the dense file of it again, bit for \
bit."""

PROMPT = """
It writes after the prompt {prompt}, with the line of data in the place of `{{source}}`; encode it \
with `add_special_tokens=False`.
"""

CHECK = """
To check the proof, where PINS is installed (exit code 0: proved, 1: refuted):

```sh
pins check {certificate}
```
"""

LIMITS = """## What is not promised

- Optimal, where it is said of the mask, means: for the linear model of the scores, max s·m with \
as many weights kept. It says nothing of the loss.
- No speed-up is promised. As dense matrices: {verdict}.{csr}
- No smaller `model.safetensors`: zeros take as much room in it as other numbers.
- The scores are of one run and one seed, on the rows named."""


def model_card(facts: Mapping[str, Any]) -> str:
    """The text of README.md.

    Args:
        facts: the content of run.json. The scores of a dense model and the certificate are
            optional.

    Raises:
        ModelError: huggingface_hub is not installed.
    """
    sections = (_front_matter, _summary, _scores, _run, _costs, _use, _limits)
    return "\n\n".join(section(facts) for section in sections) + "\n"


def _front_matter(facts: Mapping[str, Any]) -> str:
    """YAML in the form that the hub reads."""
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError as error:
        raise ModelError(
            f"huggingface_hub is not installed: run {install_command('prune')}"
        ) from error
    base, task = facts["settings"]["model"], facts["settings"]["task"]
    pipeline, scores = PIPELINES[facts["head"]], facts["scores"]
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=task,
            dataset_name=task,
            dataset_split=scores["split"],
            metric_type=HUB_METRICS.get(metric, metric),
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in scores["sparse"].items()
    ]
    data = ModelCardData(
        base_model=base if _is_hub_id(base) else None,
        eval_results=results,
        library_name="transformers",
        metrics=[result.metric_type for result in results],
        model_name=_title(facts),
        pipeline_tag=pipeline,
        tags=[
            *TAGS,
            next(
                (tag for name, tag in STRUCTURES.items() if facts["settings"].get(name)),
                "unstructured-sparsity",
            ),
        ],
    )
    return f"---\n{data.to_yaml()}\n---"


def _summary(facts: Mapping[str, Any]) -> str:
    weights, settings = facts["costs"]["weights"], facts["settings"]
    pruned = weights["prunable"] - weights["kept"]
    text = (
        f"# {_plain(_title(facts))}\n\n"
        f"{_code(_last(settings['model']))}, fine-tuned on {_code(settings['task'])} and pruned by "
        f"{linked('PINS')}: {weights['kept']:,} of {weights['prunable']:,} prunable weights are "
        f"kept, {pruned:,} are zero, a sparsity of {percent(pruned, weights['prunable'])} "
        f"({percent(pruned, weights['parameters'])} of all {weights['parameters']:,} parameters). "
        f"{_asked(settings)} was asked for."
    )
    if zeros := facts.get("start", {}).get("zeros"):
        text += (
            f" {zeros:,} prunable weights were zero at the start and stayed zero: each decision "
            "was among the masks that keep none of them."
        )
    if said := facts.get("allocation", {}).get("sentences"):
        text += f"\n\n{_plain(' '.join(said))}"
    if certificate := facts["certificate"]:
        sentence = " ".join(certificate["sentence"].split()).rstrip(".")
        sentence = f"{sentence[:1].upper()}{sentence[1:]}."
        text += f"\n\n{sentence} The proof: `{_last(certificate['file'])}`."
    return text


def _asked(settings: Mapping[str, Any]) -> str:
    if settings.get("keep_zeros"):
        return "The mask of the base model"
    if settings["sparsity"] is None:
        return f"Exactly {settings['pattern']}"
    return f"{100 * settings['sparsity']:.10g} %"


def _scores(facts: Mapping[str, Any]) -> str:
    scores = facts["scores"]
    columns = {"pruned": scores["sparse"]}
    if "dense" in scores:
        columns["dense, fine-tuned without pruning"] = scores["dense"]
    if "teacher" in scores:
        columns["its first teacher, which is sparse"] = scores["teacher"]
    table = _table(
        ("metric", *columns),
        (
            (metric, *(f"{column[metric]:.4f}" for column in columns.values()))
            for metric in scores["sparse"]
        ),
    )
    rows_ = f"On {_plain(scores['split'])}, {scores['rows']:,} rows"
    if sample := scores.get("sample"):
        rows_ += f", a sample of {sample['rows']:,} of {sample['of']:,}"
    return f"## Scores\n\n{rows_}.\n\n{table}"


def _run(facts: Mapping[str, Any]) -> str:
    settings = facts["settings"]
    values = {
        SETTINGS.get(key, key.replace("_", " ")): _value(key, settings[key])
        for key in dict.fromkeys([*SETTINGS, *settings])
        if key not in ELSEWHERE and settings.get(key) not in (None, [], ())
    }
    lines = [
        "## The run",
        "",
        f"- base model: {_code(_last(settings['model']))}",
        *(
            f"- its {_code(_last(file))}: SHA-256 `{digest}`"
            for file, digest in facts["weights_sha256"].items()
        ),
        f"- task: {_code(settings['task'])}",
        *(f"- {name}: {_plain(str(value))}" for name, value in values.items()),
        *(
            f"- data {_code(_last(file))}: SHA-256 `{digest}`"
            for file, digest in facts["data"].items()
        ),
        "- " + ", ".join(f"{package} {version}" for package, version in facts["versions"].items()),
    ]
    return "\n".join(lines)


def _value(key: str, value: Any) -> Any:
    """The value of a setting as the card says it; of a teacher's path the last part."""
    if isinstance(value, bool):
        return ("no", "yes")[value]
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return _last(value) if key == "teacher" else value


def _costs(facts: Mapping[str, Any]) -> str:
    return f"## What it costs\n\n{_table(('what', 'measured', 'remark'), rows(facts['costs']))}"


def _use(facts: Mapping[str, Any]) -> str:
    certificate, prompt = facts["certificate"], facts.get("prompt")
    return USE.format(
        auto_class=HEADS[facts["head"]].auto_class,
        prompt=PROMPT.format(prompt=_code(prompt)) if prompt else "",
        check=CHECK.format(certificate=_last(certificate["file"])) if certificate else "",
        mask=_last(facts["mask"]),
        packed=_last(facts["packed"]),
    )


def _limits(facts: Mapping[str, Any]) -> str:
    latency = facts["costs"]["latency"]
    csr = f"\n  As sparse matrices (CSR), on the device named: {latency['csr_verdict']}."
    return LIMITS.format(verdict=latency["verdict"], csr=csr if latency["csr"] else "")


def _title(facts: Mapping[str, Any]) -> str:
    settings, weights = facts["settings"], facts["costs"]["weights"]
    sparsity = percent(weights["prunable"] - weights["kept"], weights["prunable"])
    digits = sparsity.removesuffix(" %").removesuffix(".00")
    return f"{_last(settings['model'])}-{settings['task']}-pruned-{digits}"


def _is_hub_id(model: str) -> bool:
    """Whether this is `owner/name` or `name`, as the hub allows, and not a folder here."""
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", model) is not None and not Path(model).is_dir()


def _last(path: str) -> str:
    """The last part of a path of any operating system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _code(text: str) -> str:
    """A code span of one line of Markdown: its fence is longer than any in the text."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    edge = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{edge}{line}{edge}{fence}"


def _plain(text: str) -> str:
    """One line of text that Markdown and HTML take for nothing else."""
    line = " ".join(text.split())
    return re.sub(r"[\\`*<>\[\]|&~]|\b_\B|\B_\b", lambda found: f"\\{found[0]}", line)


def _table(headings: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in (headings, ("---",) * len(headings), *lines)
    )
