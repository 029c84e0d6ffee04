"""The seven rows of evidence on the first page: claim, measured number, link to the details.

Each number comes from a results file.
"""

import json
from pathlib import Path

from benchmarks.checker import driver
from benchmarks.distributed import table as distributed_table
from benchmarks.end_accuracy.table import summary
from benchmarks.harness import markdown
from benchmarks.harness.goals import speedup
from benchmarks.harness.one_shot import HALF, dense_perplexity, shown
from benchmarks.harness.results import RESULTS, Row, read
from benchmarks.harness.score_sets import MODEL
from benchmarks.loss_decrease.driver import mean_over_seeds
from benchmarks.selection.methods import KTHVALUE, PARTITION, SELECT, TOPK
from benchmarks.selection.table import by_instance, is_exact
from verification.experiments.loss_change import by_fraction
from verification.formatting import exact_percent, signed

PAGE = "docs/evidence.md"
TASKS = ("stdlib-docs", "sst2")  # of the loss-decrease files
BEYOND = 0.001  # fraction of the weights; the signed optimum's prediction fails there
SPARSITY = 0.9  # of the scores after gradual pruning
METHODS = ("dense", "abs-pins", "pins")
ONE_SHOT = ("magnitude", "wanda", "sparsegpt", "alps", "alps + swaps")


def rows(folder: Path = RESULTS) -> list[tuple[str, str, str]]:
    """Claim, measured number and link of the seven rows, from the results files of a folder."""
    makers = (_ledger, _selection, _check, _ranks, _one_decision, _gradual, _one_shot)
    return [make(folder) for make in makers]


def table(folder: Path = RESULTS) -> str:
    """The rows as Markdown."""
    return "\n".join(markdown.table("claim | measured | more", "l", map(" | ".join, rows(folder))))


def loss_changes(folder: Path, task: str) -> dict[float, dict[str, Row]]:
    """Means over the seeds of one decision, by fraction (ascending) and criterion."""
    document = read(folder / f"loss_decrease-minilm-{task}.json")
    return by_fraction(mean_over_seeds(document["rows"]))


def _ledger(folder: Path) -> tuple[str, str, str]:
    ledger = json.loads((folder / "demo" / "results.json").read_text(encoding="utf-8"))["ledger"]
    claims = ledger["claims"]
    held = sum(row["outcome"] == "holds" for row in claims)
    return (
        "The mask is the optimum of its program: enumeration, CBC and HiGHS find none better",
        f"{held} of {len(claims)} claims hold"
        + (", and every control, made wrong on purpose, fails" if ledger["all_hold"] else ""),
        f"[the claims]({PAGE}#claims)",
    )


def _selection(folder: Path) -> tuple[str, str, str]:
    sets = by_instance(read(folder / "selection-cpu.json")["rows"])
    whole = sets[MODEL]
    checked = [found[SELECT] for found in sets.values() if SELECT in found]
    exact = sum(is_exact(row) for row in checked)
    rivals = [
        f"{speedup(whole, SELECT, name)} times as fast as `{name}`"
        for name in (KTHVALUE, TOPK, PARTITION)
    ]
    return (
        "Deciding over all matrices of BERT-base is exact, and faster than what people use",
        f"of {whole[SELECT]['size']:,} scores on 2 cores, {', '.join(rivals)}; "
        f"{exact} of {len(checked)} masks exact",
        f"[selection]({PAGE}#a-decision-is-exact-at-the-speed-of-memory)",
    )


def _check(folder: Path) -> tuple[str, str, str]:
    found = {row["method"]: row for row in read(folder / "checker.json")["rows"]}
    return (
        "Checking a proof costs little more than the SHA-256 of the files",
        f"{speedup(found, driver.DIGEST, driver.FAST)} times as long as the digests alone",
        "[the checkers](benchmarks/results/checker.md)",
    )


def _ranks(folder: Path) -> tuple[str, str, str]:
    document = read(folder / "distributed.json")
    same = distributed_table.same_masks(document)
    most = max(row["ranks"] for row in (*document["rows"], *document["simulated"]))
    return (
        "Many processes decide as one does, and nobody gathers the scores",
        f"{sum(same)} of {len(same)} masks, of 1 to {most} ranks on CPUs, are bit for bit those of "
        "one process",
        "[several devices](docs/scaling.md)",
    )


def _one_decision(folder: Path) -> tuple[str, str, str]:
    shown = []
    for task in TASKS:
        cells = loss_changes(folder, task)[BEYOND]
        pins, region = cells["pins"], cells["trust-region"]
        shown.append(
            f"{task}: promised {signed(pins['predicted'])}, measured {signed(pins['measured'])}, "
            f"within the trust region {signed(region['measured'])}"
        )
    return (
        f"Optimal for the linear model is not optimal for the loss: {exact_percent(BEYOND)} of the "
        "weights, pruned in one decision by the signed optimum, raise it",
        f"change of the loss, {'; '.join(shown)}",
        f"[one decision]({PAGE}#optimal-for-the-model-not-for-the-loss)",
    )


def _gradual(folder: Path) -> tuple[str, str, str]:
    document = read(folder / "end_accuracy.json")
    cells = [cell for cell in summary(document["rows"]) if not cell["self_regularization"]]
    shown = []
    for task in TASKS:
        means = {
            cell["method"]: cell["mean"]
            for cell in cells
            if cell["task"] == task and cell["sparsity"] in (0.0, SPARSITY)
        }
        said = [f"{name} {means[name]:.3f}" for name in METHODS]
        said.append(f"guessing {document['tasks'][task]['majority']:.3f}")
        shown.append(f"{task}: {', '.join(said)}")
    return (
        f"Pruned gradually to {exact_percent(SPARSITY)}, averaged `abs-pins` keeps much of the "
        "accuracy; signed `pins` is left with guessing",
        f"{'; '.join(shown)} ({document['settings']['steps']} steps, nothing tuned)",
        f"[gradual pruning]({PAGE}#what-is-left-after-gradual-pruning)",
    )


def _one_shot(folder: Path) -> tuple[str, str, str]:
    document = read(folder / "oneshot-perplexity.json")
    found = {
        row["method"]: shown(row["perplexity"])
        for row in document["rows"]
        if (row["setting"], row["draw"]) == (HALF, 0)
    }
    said = [f"{name} {found[name]}" for name in ONE_SHOT]
    return (
        "A language model pruned in one shot: exact swaps after ALPS keep more than Wanda, "
        "SparseGPT and ALPS",
        f"perplexity of SmolLM2-135M, dense {shown(dense_perplexity(document))}; {HALF} pruned: "
        f"{', '.join(said)}",
        f"[one shot]({PAGE}#a-language-model-in-one-shot)",
    )
