"""The commands that verification adds to `pins`; each imports its modules when it runs.

They are entry points of the group `pins.commands`. Every `--help` imports this module, so it
imports neither torch nor numpy.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pins.errors import SettingError
from pins.utils.output import JSON_HELP, make_console, print_json, progress_console
from pins.utils.setting_checks import LARGEST

Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Seed = typer.Option(min=0, max=LARGEST, help="Seed of all random numbers.")


def certify(
    out: Annotated[Path, typer.Option(help="The certificate to write, JSON.")],
    scores: Annotated[
        Path | None, typer.Argument(help="Importance scores, a safetensors file; or give --from.")
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            help="Number of weights that the mask keeps; a pattern, or the rows of a mask, say it."
        ),
    ] = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="WHAT=FILE",
            help="Instead of scores, a file that --criterion reads: weights, gradient, before, "
            "curvature or momentum; repeat it for each. The scores are computed, and checked.",
        ),
    ] = None,
    offset: Annotated[
        float | None,
        typer.Option(help="With --from, of a trust region: δ; default: 0.1 of the mean curvature."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="The mask, safetensors; without it the optimal one is made.")
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(help="How scores were made, not checked; with --from their formula, checked."),
    ] = None,
    scope: Annotated[
        Literal["global", "tensor", "row"],
        typer.Option(
            help="Masks to compare with: all, or those with as many in each tensor or each row."
        ),
    ] = "global",
    layer_minimum: Annotated[
        float, typer.Option(help="Only masks that keep this ratio of each tensor at least.")
    ] = 0.0,
    layer_maximum: Annotated[
        float, typer.Option(help="Only masks that keep this ratio of each tensor at most.")
    ] = 1.0,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="N:M, such as 2:4: each M keep exactly N, or with --keep at most N; or "
            "transposable-4:8."
        ),
    ] = None,
    skip_indivisible: Annotated[
        bool, typer.Option(help="Keep all weights of a tensor that M does not divide.")
    ] = False,
    block: Annotated[
        str | None,
        typer.Option(help="Outputs × inputs kept or pruned whole, as 1x4; --keep counts blocks."),
    ] = None,
    transposed: Annotated[
        bool, typer.Option(help="The matrices are stored (inputs, outputs), as in GPT-2.")
    ] = False,
    cost: Annotated[
        Path | None, typer.Option(help="Costs of pruning each weight, to certify a trust region.")
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="Only masks that prune at most this cost.")
    ] = None,
    multiplier: Annotated[
        float | None, typer.Option(help="The μ of the ranking by cost + μ·score.")
    ] = None,
    json: Json = False,
) -> None:
    """Certify a mask: that it is optimal for the scores, or by exactly how much it is not.

    With --cost: by how much at most, among masks that prune no more of the cost.
    """
    from pins.utils.output import require_open

    require_open()
    from pins.selection.allocation import Allocation
    from verification.certificates.formula import Formula
    from verification.certificates.from_files import certify_files, certify_formula
    from verification.certificates.selection import summary

    how: dict[str, Any] = {"keep": keep, "mask": mask, "multiplier": multiplier, "radius": radius}
    how["transposed"] = transposed
    how["allocation"] = Allocation.parse(
        counted=keep is not None,
        scope=scope,
        layer_minimum=layer_minimum,
        layer_maximum=layer_maximum,
        pattern=pattern,
        skip_indivisible=skip_indivisible,
        block=block,
    )
    words = [each.partition("=") for each in from_ or ()]
    inputs = {what: Path(file) for what, _, file in words if file}
    if scores is not None and not words and offset is None:
        document = certify_files(scores, out, criterion=criterion, cost=cost, **how)
    elif not scores and inputs and len(inputs) == len(words) and criterion and not cost:
        document = certify_formula(Formula(criterion, inputs, offset), out, **how)
    else:
        raise SettingError(
            "certify takes either a file of scores, with --cost for a trust region, or --from "
            "WHAT=FILE, each WHAT once, with --criterion: give one of the two"
        )
    if json:
        claim = document["claim"]
        print_json({"certificate": str(out), "sentence": summary(document), "claim": claim})
    else:
        typer.echo(f"{out}: the mask {summary(document)}")


def budget(
    table: Annotated[Path, typer.Argument(help="An error table, JSON: layers and their options.")],
    budget: Annotated[
        str,
        typer.Option(
            metavar="COST=AMOUNT",
            help="bytes=0.6: at most this share of what the layers cost as they are; above 1, or "
            "with a suffix such as k, M, G, Mi or m: an amount.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for budget.json and certificate.json.")],
    error: Annotated[
        Literal["relative", "absolute", "loss"], typer.Option(help="Which error is summed.")
    ] = "relative",
    audit: Annotated[
        str | None,
        typer.Option(
            metavar="uniform|FILE",
            help="Judge an allocation too: the best single level, or a JSON file of layer: level, "
            "or layer: sparsity.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Choose a level for each layer: the least sum of errors within a budget, and prove it."""
    from pins.utils.output import require_open, results

    require_open()
    from pins.selection.budget.document import CHOICE
    from pins.selection.budget.spec import Budget
    from verification.certificates.budget_files import budget_files, headline

    asked = Budget.parse(budget)
    made = budget_files(table, asked, out, error=error, audit=audit)
    if json:
        print_json({"folder": str(out), **made.document})
    else:
        make_console().print(results(headline(made, asked)))
        typer.echo(f"\n{out / CHOICE}")


def audit(
    dense: Annotated[
        str, typer.Option(help="The dense model: a folder, a safetensors file, or a name.")
    ],
    sparse: Annotated[
        str, typer.Option(help="The sparse model, from any tool; or a file of masks.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for audit.json and the certificates.")],
    json: Json = False,
) -> None:
    """Say what a sparse model is: pattern, criteria it is an optimum of; 1: a claim is false.

    A stopped audit goes on in its folder. 2: the models cannot be read, or do not belong together.
    """
    from verification.audit.command import run_audit

    raise typer.Exit(run_audit(progress_console(json), dense, sparse, out, json=json))


def check(
    certificate: Annotated[Path, typer.Argument(help="A certificate, JSON.")], json: Json = False
) -> None:
    """Check a certificate: exit code 0 proved, 1 refuted, 2 unreadable."""
    from verification.certificates import fast_checker

    if not json:
        raise typer.Exit(fast_checker.main([str(certificate)]))
    verdict = fast_checker.check(certificate)
    said = {"outcome": verdict.outcome.name.lower(), "message": verdict.message}
    print_json({"certificate": str(certificate), **said})
    raise typer.Exit(verdict.outcome.value)


def export_vipr(
    certificate: Annotated[Path, typer.Argument(help="A certificate, JSON.")],
    out: Annotated[Path, typer.Option(help="The VIPR file to write.")],
    force: Annotated[bool, typer.Option(help="Export more than a million weights too.")] = False,
    json: Json = False,
) -> None:
    """Write a proved certificate as a VIPR file, for checkers of integer programs such as viprchk.

    The file proves the optimum, or the bound of a claimed gap; not that the optimum is unique.
    """
    from pins.utils.output import require_open

    require_open()
    from verification.certificates.vipr import export

    made = export(certificate, out, force=force)
    if json:
        numbers = {key: getattr(made, key) for key in ("variables", "constraints", "exponent")}
        ends = {"lower": str(made.lower), "upper": str(made.upper)}
        print_json({"certificate": str(certificate), "file": str(out), **numbers, **ends})
    else:
        typer.echo(f"{out}: {made}")


def verify(
    profile: Annotated[
        str, typer.Option(help="How thorough: quick (about a minute) or full.")
    ] = "quick",
    out: Annotated[Path | None, typer.Option(help="Write the ledger to this file too.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Model for the claims on real gradients: a folder or an id.")
    ] = None,
    seed: Annotated[int, Seed] = 0,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of results files; default: benchmarks/results of the checkout."),
    ] = None,
    json: Json = False,
) -> None:
    """Run the ledger: each claim is checked, and its control must fail.

    Claims about measurements are ruled on from results files; they change no exit code.
    """
    from verification.claims.command import run_ledger

    asked: Any = {"profile": profile, "model": model, "seed": seed, "results": results}
    raise typer.Exit(run_ledger(progress_console(json), file=out, json=json, **asked))


def plot(
    name: Annotated[
        str | None, typer.Argument(help="A figure, or all; without a name: list the figures.")
    ] = None,
    run: Annotated[
        Path, typer.Option("--from", help="Folder of a run, or of a benchmark's results.")
    ] = Path("report"),
    out: Annotated[
        Path | None, typer.Option(help="The file: .svg, .png or .pdf; for all a folder.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the figures.")] = False,
    json: Annotated[bool, typer.Option("--json", help="List them as one JSON object.")] = False,
) -> None:
    """Draw a figure from the files of a run, and say what it shows."""
    from verification.plots.command import list_figures, run_plot

    if name is None or list_:
        list_figures(json=json)
    elif json:
        raise SettingError("--json lists the figures: give it with --list, without a figure's name")
    else:
        raise typer.Exit(run_plot(make_console(), name, run, out))


def explore(
    run: Annotated[Path, typer.Argument(help="Folder of a run of demo or prune.")],
    out: Annotated[
        Path | None, typer.Option(help="The page, HTML; default: explorer.html in the folder.")
    ] = None,
) -> None:
    """Write a page that recomputes a pruning decision on the run's weights as controls move."""
    from verification.explorer.command import run_explore

    typer.echo(run_explore(run, out))


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("report"),
    model: Annotated[
        str | None, typer.Option(help="A folder, or an id of the Hugging Face hub.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task to fine-tune on.")] = None,
    criterion: Annotated[str | None, typer.Option(help="The importance criterion.")] = None,
    sparsity: Annotated[float | None, typer.Option(help="1 − kept ratio to reach.")] = None,
    dense_steps: Annotated[
        int | None, typer.Option(min=0, help="Steps of fine-tuning first.")
    ] = None,
    sparse_steps: Annotated[int | None, typer.Option(min=1, help="Steps of pruning after.")] = None,
    cooldown: Annotated[
        int | None, typer.Option(min=0, help="Of these, at the final sparsity.")
    ] = None,
    seed: Annotated[int | None, Seed] = None,
    keep_scores: Annotated[
        bool, typer.Option(help="Keep the scores of every decision, 4 bytes a weight.")
    ] = False,
    full: Annotated[bool, typer.Option(help="Shorten nothing: longer rows, more of all.")] = False,
    json: Json = False,
) -> None:
    """Fine-tune, prune and prove a real model on real text; write a report. Offline, minutes."""
    from verification.demo.command import run_demo

    steps = {"dense_steps": dense_steps, "sparse_steps": sparse_steps, "cooldown": cooldown}
    given = {"model": model, "task": task, "criterion": criterion, "sparsity": sparsity, **steps}
    given |= {"seed": seed, "keep_scores": keep_scores}
    settings = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(run_demo(progress_console(json), out, settings, full=full, json=json))
