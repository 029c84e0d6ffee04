"""Take what documents and figures quote of runs from their folders into the results folder.

    python -m benchmarks.documents.run_results report pruned

A demo's goes to results/demo/, one of `pins prune` to results/prune-CRITERION/: its numbers, and
the sample of its weights. `pins plot --from` and the course read them there.
"""

import shutil
import sys
from pathlib import Path

from benchmarks.harness.results import RESULTS
from pins.errors import PinsError
from pins.runs.folder import RUN, SAMPLE
from pins.utils.io import atomic, write_json
from verification.experiments.run_reader import REPORT, RunData

DEMO = "demo"


def keep(folder: Path, results: Path = RESULTS) -> Path:
    """Copy the numbers and the sample of one run; where they are now.

    Raises:
        FileError: there is no run in the folder that is done.
    """
    run = RunData(folder)
    target = results / (DEMO if run.is_demo else f"prune-{run.document['settings']['criterion']}")
    run.sample  # noqa: B018 (says so, where it is missing)
    write_json(run.document, target / (REPORT if run.is_demo else RUN))
    with atomic(target / SAMPLE) as temporary:
        shutil.copyfile(folder / SAMPLE, temporary)
    return target


def main() -> None:
    """Copy from the folders that are named."""
    try:
        for folder in sys.argv[1:] or ["report"]:
            print(keep(Path(folder)))
    except PinsError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
