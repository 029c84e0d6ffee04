"""The folder of a run of `pins demo`, `pins prune` or a benchmark, read for figures.

An error names what is missing, and the command that writes it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pins import masks
from pins.errors import FileError
from pins.importance.trust_region.program import Terms
from pins.pruning.schedules import CubicSchedule, Schedule
from pins.runs import weight_sample
from pins.runs.folder import CERTIFICATE, COSTS, MASKS, RUN, SAMPLE, SCORES
from pins.runs.settings import Settings
from pins.runs.weight_sample import WeightSample
from pins.selection.optimality import optimality
from pins.utils.io import load_tensors
from pins.utils.text_files import read_object, reading
from verification.certificates.document import beside
from verification.experiments.model_snapshot import layer_type
from verification.experiments.score_curve import score_curve

REPORT, REPORT_FORMAT = "results.json", "pins-report"  # of `pins demo`
KINDS: Mapping[str, str] = {REPORT: REPORT_FORMAT, RUN: "pins-run"}
COMMANDS = "of `pins demo` or `pins prune`"

Row = Mapping[str, Any]


class RunData:
    """The folder of a run; each file is read when it is first used."""

    def __init__(self, folder: Path) -> None:
        """Check that the folder exists.

        Raises:
            FileError: it is not a folder.
        """
        if not folder.is_dir():
            raise FileError(f"{folder} is no folder: give the folder of a run, as of `pins demo`")
        self.folder = folder

    @cached_property
    def document(self) -> dict[str, Any]:
        """results.json of a demo, or run.json of `pins prune`.

        Raises:
            FileError: there is neither, or the run is not finished.
        """
        for name, kind in KINDS.items():
            file = self.folder / name
            if not file.is_file():
                continue
            document = read_object(file)
            if document.get("format") != kind:
                raise FileError(f"{file} is no {kind}: give the folder of a run")
            if not document.get("finished", True):
                raise FileError(f"{self.folder} holds a run that is not finished: finish it")
            return document
        raise self._without(" and no ".join(KINDS), f"the folder of a finished run {COMMANDS}")

    @property
    def is_demo(self) -> bool:
        """True for the folder of a demo."""
        return bool(self.document["format"] == REPORT_FORMAT)

    def _reading(self) -> AbstractContextManager[None]:
        return reading(f"{self.folder} holds a run whose files are damaged, or of another version")

    def field(self, name: str, command: str) -> Any:
        """A part of the document.

        Raises:
            FileError: it is missing; `command` writes it.
        """
        found = self.document.get(name)
        if not found:
            raise self._without(name.replace("_", " "), f"--from the folder of `{command}`")
        return found

    @cached_property
    def sample(self) -> WeightSample:
        """The sample of weights at a decision.

        Raises:
            FileError: there is none.
        """
        file = self.folder / SAMPLE
        if not file.is_file():
            raise self._without(SAMPLE, f"the folder of a run {COMMANDS}")
        return weight_sample.load(file)

    @property
    def decisions(self) -> Sequence[Row]:
        """All decisions, in order."""
        found = self.field("decisions", "pins prune")
        with self._reading():
            return [dict(row) for row in found]

    @property
    def counted(self) -> Sequence[Row]:
        """All decisions, with the number of weights that each one kept in each tensor.

        Raises:
            FileError: the run is of an earlier version, which did not count them.
        """
        if "each" not in self.decisions[0]:
            version = "a run of an earlier version, without counts for each tensor"
            raise FileError(f"{self.folder} holds {version}: run it again")
        return self.decisions

    @property
    def tensors(self) -> Mapping[str, int]:
        """Name → number of weights of each pruned tensor, in order."""
        with self._reading():
            place = self.document if self.is_demo else self.document["costs"]["weights"]
            return {str(layer["name"]): int(layer["total"]) for layer in place["layers"]}

    @property
    def kinds(self) -> Sequence[str]:
        """The kind of layer of each pruned tensor, in order."""
        return [layer_type(name) for name in self.tensors]

    @cached_property
    def schedule(self) -> Schedule:
        """The schedule of the run."""
        with self._reading():
            asked = self.document["settings"]
            if self.is_demo:
                same = {name: asked[name] for name in ("cooldown", "interval")}
                return CubicSchedule(asked["sparse_steps"], asked["sparsity"], **same)
            # a run of an earlier version has settings with other names, which no schedule reads
            names = {field.name for field in fields(Settings)} - {"device"}
            known = {name: value for name, value in asked.items() if name in names}
            known["without_quirks"] = tuple(known["without_quirks"])
            return Settings(**known).pruning_schedule(self.start)

    @property
    def start(self) -> Fraction:
        """The ratio of zeros that the model started with and kept."""
        with self._reading():
            start = self.document.get("start", {"zeros": 0, "total": 1})
            return Fraction(start["zeros"], start["total"])

    @property
    def steps(self) -> int:
        """The number of steps with a pruner."""
        with self._reading():
            asked = self.document["settings"]
            return int(asked["sparse_steps" if self.is_demo else "steps"])

    @cached_property
    def curve(self) -> Row:
        """The sorted scores of the last decision, with its threshold."""
        if self.is_demo:
            return cast(Row, self.field("last_decision", "pins demo"))
        with self._reading():
            scores, _ = load_tensors(self.folder / SCORES)
            if (self.folder / COSTS).is_file():
                costs, _ = load_tensors(self.folder / COSTS)
                multiplier = self.decisions[-1]["multiplier"]
                scores = {n: Terms(s, costs[n]).scores(multiplier) for n, s in scores.items()}
            kept = masks.load(self.folder / MASKS)
            zeros = beside(self.folder / CERTIFICATE, "zeros")
            if zeros.is_file():  # which were not decided: no points of the curve
                free = {name: ~stayed for name, stayed in masks.load(zeros).items()}
                scores = {name: s[free[name]] for name, s in scores.items()}
                kept = {name: mask[free[name]] for name, mask in kept.items()}
            return score_curve(scores, optimality(scores, kept))

    def rows(self, pattern: str, command: str) -> dict[str, Any]:
        """The first results file of a benchmark whose name matches.

        Raises:
            FileError: there is none; `command` writes one.
        """
        files = sorted(self.folder.glob(pattern))
        if not files:
            raise self._without(pattern, f"--from the folder of results that `{command}` writes")
        document = read_object(files[0])
        if not document.get("rows"):
            raise FileError(f"{files[0]} holds no rows: let `{command}` finish")
        return document

    def _without(self, what: str, give: str) -> FileError:
        return FileError(f"{self.folder} holds no {what}: give {give}")
