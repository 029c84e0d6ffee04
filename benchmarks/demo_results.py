"""Take what the README quotes of a demo run from its report into the results folder.

python -m benchmarks.demo_results report
"""

import json
import sys
from pathlib import Path

from benchmarks.results_file import RESULTS
from pins.files import write_json

# the curves of the figures are left out: they are long, and nothing quotes them
QUOTED = (
    "provenance",
    "settings",
    "model",
    "task",
    "dense",
    "sparse",
    "decisions",
    "checker",
    "compared",
    "loss_changes",
    "regrets",
    "ledger",
    "seconds",
)


def main() -> None:
    """Copy the quoted parts of REPORT/results.json."""
    report = Path(sys.argv[1] if len(sys.argv) > 1 else "report")
    results = json.loads((report / "results.json").read_text(encoding="utf-8"))
    write_json({name: results[name] for name in QUOTED}, RESULTS / "demo.json")


if __name__ == "__main__":
    main()
