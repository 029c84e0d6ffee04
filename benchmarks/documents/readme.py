"""Write the generated parts of the documents: claims, and tables made from results files.

    python -m benchmarks.documents.readme

A part lies between `<!-- NAME -->` and `<!-- /NAME -->`; a test compares the documents with it.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.distributed import table as distributed
from benchmarks.distributed.cost_model import on_paper
from benchmarks.documents import evidence, oneshot_plan
from benchmarks.end_accuracy import table as accuracy
from benchmarks.harness import markdown
from benchmarks.harness.markdown import escaped, measured_with
from benchmarks.harness.results import RESULTS, Document, read
from benchmarks.loss_decrease import driver as loss_decrease
from benchmarks.oneshot import table as one_shot
from benchmarks.oneshot_loss import table as one_shot_loss
from benchmarks.overhead import driver as overhead
from benchmarks.selection import table as selection
from pins.utils.io import write_text
from verification.claims import ALL_CLAIMS
from verification.demo.command import summary
from verification.empirical.ledger import rule_folder, rules

ROOT = Path(__file__).parents[2]


def claims() -> str:
    """One line for each claim."""
    lines = (
        f"{escaped(claim.statement)} (`{claim.id}`) | {claim.scope} | "
        f"{escaped(claim.control_statement)}"
        for claim in ALL_CLAIMS
    )
    return "\n".join(markdown.table("claim | scope | control that must fail", "l", lines))


def empirical() -> str:
    """One line for each claim about measurements, with its verdict; then the rules."""
    entries = rule_folder(RESULTS)
    lines = []
    for entry in entries:
        claim, ruling = entry.claim, entry.ruling
        said = f"**{ruling.verdict.value}**{str(ruling).removeprefix(ruling.verdict.value)}"
        statement = f"{claim.statement} (`{claim.id}`, {claim.source})"
        lines.append(" | ".join(map(escaped, (statement, claim.scope, said, ruling.evidence))))
    return markdown.document(
        markdown.table("claim | where it is looked at | verdict | evidence", "l", lines),
        "How each is decided:",
        [
            f"- {', '.join(f'`{each}`' for each in ids)}: {rule}"
            for rule, ids in rules(entries).items()
        ],
    ).rstrip()


def loss_changes() -> str:
    """The tables of one decision, without their titles."""
    return "\n\n".join(
        f"**{task}**\n\n{_body(loss_decrease.table, f'loss_decrease-minilm-{task}')}"
        for task in evidence.TASKS
    )


def end_accuracy() -> str:
    """The tables of gradual pruning, without their title; headings become bold words."""
    text = _body(accuracy.table, "end_accuracy")
    return re.sub(r"^## (.*)$", r"**\1**", text, flags=re.MULTILINE)


def _body(table: Callable[[Document], str], name: str) -> str:
    """The tables of a results file, without their title."""
    return table(read(RESULTS / f"{name}.json")).partition("\n\n")[2].strip()


def _measured(name: str, *blocks: Callable[[Document], list[str]]) -> str:
    """Some blocks of a results file, and how they were measured."""
    document = read(RESULTS / f"{name}.json")
    made = [block(document) for block in blocks]
    return markdown.document(*made, measured_with(document["provenance"])).rstrip()


def demo() -> str:
    """The output of `make demo` in the run whose results are committed."""
    results = json.loads((RESULTS / "demo" / "results.json").read_text(encoding="utf-8"))
    return "```\n" + "\n".join(summary(results)) + "\n```"


PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"demo": demo, "evidence": evidence.table},
    "docs/evidence.md": {
        "claims": claims,
        "empirical": empirical,
        "loss-decrease": loss_changes,
        "end-accuracy": end_accuracy,
        "one-shot": lambda: _measured("oneshot-perplexity", one_shot.goals, one_shot.levels),
        "one-shot-loss": lambda: _measured("oneshot-loss", one_shot_loss.changes),
        "selection": lambda: _measured("selection-cpu", selection.verdict, selection.summary),
        "overhead": lambda: _body(overhead.table, "overhead-cpu"),
    },
    "docs/oneshot.md": {"plan": oneshot_plan.tables},
    "docs/scaling.md": {
        "ranks": lambda: _measured("distributed", distributed.verdict),
        "on-paper": lambda: distributed.paper_table(on_paper()),
    },
}
"""The generated parts of each document, by its path from the root of the repository."""


def filled(document: str, text: str) -> str:
    """The text of a document in which every part is generated again."""
    for name, part in PARTS[document].items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        assert end, f"{document} has no part {name!r}"
        text = f"{before}{start}{part()}\n{end}{after}"
    return text


def main() -> None:
    """Rewrite the documents."""
    for document in PARTS:
        file = ROOT / document
        write_text(filled(document, file.read_text(encoding="utf-8")), file)


if __name__ == "__main__":
    main()
