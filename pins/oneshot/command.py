"""`pins oneshot`: the run with its progress bar, the files at its end, and the table."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pins import __version__
from pins.distributed.collectives import on_rank_zero
from pins.distributed.process_group import world
from pins.oneshot.card import budget, card, loss_change, method
from pins.oneshot.folder import BLOCKS, CARD, RUN, START, CertifyChoice, require_same
from pins.oneshot.run import OneShot, inputs
from pins.oneshot.settings import Settings
from pins.pruning.final_decision import Certify, FinalDecision
from pins.tasks import load_task
from pins.utils.folder_lock import locked
from pins.utils.io import flush, write_json, write_text
from pins.utils.output import print_json, results, score, stopped
from pins.utils.progress import Progress
from pins.utils.provenance import provenance
from pins.utils.text_files import read_object


def run_oneshot(
    console: Console,
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    certify: Certify | None = None,
    certify_choice: CertifyChoice | None = None,
    missing: str = "no certifier was given",
    json: bool = False,
) -> int:
    """Prune, measure, write all files, and print the result.

    Of several ranks all of them run, and rank 0 alone prints and writes.

    Args:
        console: for progress and the result; with `json` for progress alone.
        settings: of the run.
        out: a new or empty folder; with `resume` that of a run.
        resume: go on after the last block that is done.
        certify: makes the certificate of a block's masks.
        certify_choice: makes that of a choice within a budget.
        missing: why there is no `certify`, for the line that says so.
        json: print run.json and its folder as one JSON object instead of the table.

    Returns:
        0: the run is done; 130: it was stopped from the keyboard, and can go on.

    Raises:
        PinsError: bad settings, a model or a text that does not fit, a folder in use.
    """
    group = world()
    try:
        with ExitStack() as held:
            on_rank_zero(group, lambda: held.enter_context(locked(out)))
            facts = on_rank_zero(group, lambda: _finished(out, settings) if resume else None)
            if facts is None:
                facts = _run(OneShot(settings, out), console, resume, certify, certify_choice)
    except KeyboardInterrupt:
        return stopped("after the last block")
    if group.rank:
        return 0
    if json:
        print_json({"folder": str(out), **facts})
        return 0
    console.print(result_table(facts))
    if certify is None:
        console.print(f"No certificates: {missing}", soft_wrap=True)
    console.print(f"\nModel: {out}", soft_wrap=True)
    return 0


def result_table(facts: Mapping[str, Any]) -> Table:
    """What was kept, and the perplexities."""
    return results(headline(facts))


def headline(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The results of a run as lines of name and value."""
    weights, perplexity, settings = facts["weights"], facts["perplexity"], facts["settings"]
    lines = [
        ("method", method(settings)),
        ("kept", f"{weights['kept']:,} of {weights['prunable']:,} prunable weights, exactly"),
        ("sparsity", f"{1 - weights['kept'] / weights['prunable']:.4%}"),
        ("perplexity, dense", score(perplexity["dense"])),
        ("perplexity, sparse", f"{score(perplexity['sparse'])} (headline)"),
        (
            "judged on",
            f"{perplexity['tokens']:,} tokens in {perplexity['windows']} windows of "
            f"{perplexity['context']}, {perplexity['rest']:,} tokens left",
        ),
        (
            "reconstruction error",
            f"{facts['relative_error']:.4f} of the layers' outputs, on average",
        ),
        ("loss change", loss_change(facts)),
    ]
    if facts["budget"]:
        lines.append(("budget", budget(facts)))
    if dense := facts["left_dense"]:
        told = f"{len(dense)} matrices that no calibration token reaches: {dense[0]}, …"
        lines.append(("left dense", told))
    if facts["certificates"]:
        what = "one of each block's masks"
        if facts["decision"]:
            what = "of the masks of all blocks"
        lines.append(("certificates", f"{len(facts['certificates'])}, {what}, in blocks/"))
    if (memory := facts["peak_bytes"]) is not None:
        lines.append(
            ("peak memory", f"{memory / 1e6:,.0f} MB; the model has {facts['bytes'] / 1e6:,.0f} MB")
        )
    return lines


def _run(
    run: OneShot,
    console: Console,
    resume: bool,
    certify: Certify | None,
    certify_choice: CertifyChoice | None,
) -> dict[str, Any]:
    settings, out = run.settings, run.folder.out
    begin = partial(run.folder.begin, {**settings.as_json(), **run.inputs}, resume=resume)
    on_rank_zero(run.group, begin)
    proved: dict[str, str] = {}

    def prove(number: int | None, name: str) -> None:  # None: all blocks
        if certify is not None and (decision := run.decision(number)) is not None:
            on_rank_zero(run.group, partial(_certified, decision, certify))
            proved[name] = str(decision.certificate.relative_to(out))

    with Progress(console) as progress:
        if run.levels:
            with progress.phase("errors", len(run.decoder)) as advance:
                for _ in run.errors():
                    advance()
        if settings.budget is not None:
            run.choose(certify_choice)
        if run.decides:
            with progress.phase("gradients", len(run.calibration)) as advance:
                run.decide(advance)
            prove(None, "all")
        with progress.phase("blocks", len(run.decoder)) as advance:
            for number, report in enumerate(run.blocks()):
                prove(number, report["block"])
                advance(f"error {mean_error([report]):.4f}")
    facts = _facts(run, proved)
    on_rank_zero(run.group, partial(_finish, run, facts))
    return facts


def _certified(decision: FinalDecision, certify: Certify) -> None:
    if not decision.certificate.is_file():
        certify(decision)


def _finish(run: OneShot, facts: Mapping[str, Any]) -> None:
    out = run.folder.out
    run.folder.finish()
    write_text(card(facts), out / CARD)
    write_json(dict(facts), out / RUN)
    flush(out)


def _facts(run: OneShot, certificates: Mapping[str, str]) -> dict[str, Any]:
    layers = [layer for report in run.reports for layer in report["layers"].values()]
    losses = run.losses()
    change = run.calibration_losses()
    change["measured"] = change["sparse"] - change["dense"]
    decided = {name: _finite(value) for name, value in (run.folder.report(None) or {}).items()}
    settings, test = run.settings, run.test
    return {
        "format": "pins-oneshot",
        "version": 1,
        "pins": __version__,
        **provenance(),
        "settings": settings.as_json(),
        "model_sha256": run.inputs["model_sha256"],
        "about": run.about,
        "data": dict(run.digests),
        "weights": {
            "kept": sum(layer["kept"] for layer in layers),
            "prunable": sum(layer["total"] for layer in layers),
        },
        "perplexity": {
            **{name: _finite(run.perplexity(each)) for name, each in losses.items()},
            "context": settings.length,
            "stride": settings.stride or settings.length,
            "windows": len(test),
            "tokens": test.scored,
            "rest": test.rest,
            "text_sha256": test.text_sha256,
            "losses": {name: [*map(_finite, each)] for name, each in losses.items()},
        },
        "calibration": {
            "windows": len(run.calibration),
            "tokens": settings.length * len(run.calibration),
            "text_sha256": run.calibration.text_sha256,
        },
        "budget": run.budget,
        "left_dense": run.left_dense,
        "loss_change": {
            **{name: _finite(value) for name, value in change.items()},
            "predicted": decided.get("predicted"),
        },
        "decision": decided or None,
        "relative_error": mean_error(run.reports),
        "rounding": max(report["rounding"] for report in run.reports),
        "blocks": run.reports,
        "certificates": dict(certificates),
        "ranks": run.group.size,
        "bytes": run.decoder.nbytes,
        "peak_bytes": peak_bytes(),
    }


def _finite(value: float) -> float | None:
    """The value as JSON has it: None for NaN and infinity."""
    return value if isfinite(value) else None


def mean_error(reports: Sequence[Mapping[str, Any]]) -> float:
    """The mean of the relative reconstruction errors of the layers that read something."""
    errors: list[float] = [
        each["relative_error"]
        for report in reports
        for each in report["layers"].values()
        if each["vectors"]
    ]
    return sum(errors) / max(len(errors), 1)


def _finished(out: Path, settings: Settings) -> dict[str, Any] | None:
    """The result of a run that is done, with the same settings and inputs; None if it is not done.

    Raises:
        FileError: they are others.
    """
    if not (out / RUN).is_file():
        return None
    known = read_object(out / BLOCKS / START)
    require_same(out, known, settings.as_json())
    require_same(out, known, inputs(settings, load_task(settings.task, settings.data)))
    return read_object(out / RUN)


def peak_bytes() -> int | None:
    """The most memory that this process had so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
