"""Write the generated parts of the documents: the claims, and tables made from results files.

    python -m benchmarks.documents.readme

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`; a test holds the documents to it.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.distributed import table as distributed_table
from benchmarks.distributed.communication_plan import Constants
from benchmarks.distributed.predictions import on_paper
from benchmarks.documents import evidence
from benchmarks.end_accuracy import table as accuracy_table
from benchmarks.harness.results import RESULTS, measured_with, read
from benchmarks.loss_decrease.driver import table
from benchmarks.overhead import driver
from benchmarks.selection import table as selection_table
from pins.utils.io import write_text
from verification.claims import ALL_CLAIMS
from verification.demo.command import summary
from verification.empirical.ledger import rule_folder, rules

ROOT = Path(__file__).parents[2]


def claims() -> str:
    """One line a claim."""
    lines = ["| claim | scope | control that must fail |", "|---|---|---|"]
    for claim in ALL_CLAIMS:
        statement = claim.statement.replace("|", "\\|")
        control = claim.control_statement.replace("|", "\\|")
        lines.append(f"| {statement} (`{claim.id}`) | {claim.scope} | {control} |")
    return "\n".join(lines)


def empirical() -> str:
    """One line a claim about measurements, ruled on from the results files; then the rules."""
    entries = rule_folder(RESULTS)
    lines = ["| claim | where it is looked at | verdict | evidence |", "|---|---|---|---|"]
    for entry in entries:
        claim, ruling = entry.claim, entry.ruling
        cells = (f"{claim.statement} (`{claim.id}`, {claim.source})", claim.scope)
        said = (f"**{ruling.verdict.value}**{str(ruling).removeprefix(ruling.verdict.value)}",)
        shown = (cell.replace("|", "\\|") for cell in (*cells, *said, ruling.evidence))
        lines.append(f"| {' | '.join(shown)} |")
    lines += ["", "How each is decided:", ""]
    for rule, ids in rules(entries).items():
        lines.append(f"- {', '.join(f'`{each}`' for each in ids)}: {rule}")
    return "\n".join(lines)


def loss_decrease() -> str:
    """The benchmark's table, without its title."""
    parts = []
    for task in ("stdlib-docs", "sst2"):
        text = _body(table(read(RESULTS / f"loss_decrease-minilm-{task}.json")))
        parts.append(f"**{task}**\n\n{text}")
    return "\n\n".join(parts)


def end_accuracy() -> str:
    """The benchmark's tables, without their title; headings become words in bold."""
    text = _body(accuracy_table.table(read(RESULTS / "end_accuracy.json")))
    return re.sub(r"^## (.*)$", r"**\1**", text, flags=re.MULTILINE)


def cost() -> str:
    """The overhead benchmark's tables, without their title."""
    return _body(driver.table(read(RESULTS / "overhead-cpu.json")))


def selection() -> str:
    """The selection benchmark's goals and its table of all sets of scores."""
    document = read(RESULTS / "selection-cpu.json")
    return "\n".join(
        [
            *selection_table.verdict(document),
            "",
            *selection_table.summary(document),
            "",
            measured_with(document["provenance"]),
        ]
    )


def _body(text: str) -> str:
    return text.partition("\n\n")[2].strip()


def demo() -> str:
    """What `make demo` printed in the run whose results are committed."""
    results = json.loads((RESULTS / "demo" / "results.json").read_text(encoding="utf-8"))
    return "```\n" + "\n".join(summary(results)) + "\n```"


def ranks() -> str:
    """How far several ranks decide as one process does, and as the cost model says."""
    document = read(RESULTS / "distributed.json")
    return "\n".join(
        [*distributed_table.verdict(document), "", measured_with(document["provenance"])]
    )


def on_many_gpus() -> str:
    """What a decision takes on paper, by the constants that the algorithm has now."""
    return distributed_table.paper_table(on_paper(Constants.present()))


Parts = Mapping[str, Callable[[], str]]
PARTS: Mapping[str, Parts] = {
    "README.md": {"demo": demo, "evidence": evidence.table},
    "docs/evidence.md": {
        "claims": claims,
        "empirical": empirical,
        "loss-decrease": loss_decrease,
        "end-accuracy": end_accuracy,
        "selection": selection,
        "overhead": cost,
    },
    "docs/scaling.md": {"ranks": ranks, "on-paper": on_many_gpus},
}
"""The generated parts of each document, by its path from the repository's root."""


def filled(document: str, text: str) -> str:
    """The text of a document with every part made anew."""
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
