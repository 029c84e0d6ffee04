"""Copy the numbers that documents and figures quote from run folders into the results folder.

    python -m benchmarks.documents.run_results report pruned

A demo goes to results/demo/, a run of `pins prune` to results/prune-CRITERION/: the numbers and the
sample of the weights. `pins plot --from` and the course read them there.
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.cli import execute
from benchmarks.harness.results import RESULTS
from pins.runs.folder import RUN, SAMPLE
from pins.utils.io import atomic, write_json
from verification.experiments.run_reader import REPORT, RunData

DEMO = "demo"


def keep(folder: Path, results: Path = RESULTS) -> Path:
    """Copy the numbers and the sample of one run; return their new folder.

    Raises:
        FileError: the folder holds no complete run.
    """
    run = RunData(folder)
    target = results / (DEMO if run.is_demo else f"prune-{run.document['settings']['criterion']}")
    run.sample  # noqa: B018 (raises if the sample is missing)
    write_json(run.document, target / (REPORT if run.is_demo else RUN))
    with atomic(target / SAMPLE) as temporary:
        shutil.copyfile(folder / SAMPLE, temporary)
    return target


def main(
    folders: Annotated[list[Path] | None, typer.Argument(help="Default: report.")] = None,
) -> None:
    """Copy from the named folders."""
    for folder in folders or [Path("report")]:
        print(keep(folder))


if __name__ == "__main__":
    execute(main)
