"""The command line. It alone looks down the chain of packages, and loads them when they are needed.

Exit codes: 0 done, proved, or every claim holds · 1 refuted, or a claim does not hold ·
2 bad input: a file, a model, an option · 130 stopped from the keyboard.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pins.distributed.launch import only_rank_zero_prints
from pins.errors import CertificateError, PinsError
from pins.runs.cli_options import prune_signature
from pins.runs.settings import LARGEST_SEED
from pins.utils.progress import make_console
from pins.utils.repository import install_command

if TYPE_CHECKING:
    from pins.runs.export import FinalDecision

# of the extra 'demo'; transformers is of another, and its module says so itself
DEMO_EXTRA = ("jinja2", "matplotlib")

app = typer.Typer(
    help="Prune language models by a principled importance, and prove each decision.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run a command; an error PINS raises on purpose becomes one line and exit code 2."""
    try:
        with only_rank_zero_prints():
            app()
    except ModuleNotFoundError as error:
        if error.name not in DEMO_EXTRA:
            raise
        advice = f"{error.name} is not installed: run {install_command('demo')}"
        print(f"pins: {advice}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenPipeError:
        # the reader has gone (`pins verify | head`); keep the interpreter's own flush quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (PinsError, OSError, UnicodeError) as error:
        # the last two: a path that the system or an encoding refuses before PINS could ask
        print(f"pins: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


def _version(asked: bool) -> None:
    if asked:
        from pins import __version__

        typer.echo(f"pins {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def prune(
    config: Path | None = None, out: Path | None = None, resume: bool = False, **settings: Any
) -> None:
    """Prune a model while it is fine-tuned, with self-regularisation; write a model that loads."""
    from pins.runs.command import run_prune
    from verification.certificates.certificate import certify_files, summary
    from verification.certificates.trust_region import certify_region_files

    def certify_run(final: "FinalDecision") -> str:
        final.certificate.unlink(missing_ok=True)  # of a run that was stopped here
        asked: dict[str, Any] = {
            "keep": final.constraint,
            "mask": final.masks,
            "criterion": final.criterion,
        }
        if final.cost is None:
            return summary(certify_files(final.scores, final.certificate, **asked))
        return summary(
            certify_region_files(
                final.scores, final.cost, final.certificate, multiplier=final.multiplier, **asked
            )
        )

    given = {name: value for name, value in settings.items() if value is not None}
    if out is not None:
        given["out"] = out
    raise typer.Exit(
        run_prune(make_console(), given, config=config, resume=resume, certify=certify_run)
    )


prune.__signature__ = prune_signature()  # type: ignore[attr-defined]
app.command()(prune)


@app.command()
def pack(
    model: Annotated[Path, typer.Argument(help="Folder of a pruned model.")],
    mask: Annotated[
        Path | None, typer.Option(help="Its masks; default: masks.safetensors in the folder.")
    ] = None,
) -> None:
    """Write packed.safetensors beside a model: a bit a weight, and the kept values."""
    from pins import masks
    from pins.models import sparse_format

    file = sparse_format.pack_folder(model, masks.load(mask or model / "masks.safetensors"))
    typer.echo(f"{file}: {file.stat().st_size:,} bytes")


@app.command()
def unpack(
    model: Annotated[Path, typer.Argument(help="Folder with packed.safetensors.")],
    out: Annotated[Path, typer.Option(help="New folder for the dense model.")],
) -> None:
    """Write the model back from its packed form, bit for bit."""
    from pins.models import sparse_format

    typer.echo(sparse_format.unpack_folder(model, out))


@app.command()
def certify(
    scores: Annotated[Path, typer.Argument(help="Importance scores, a safetensors file.")],
    keep: Annotated[int, typer.Option(help="Number of weights that the mask keeps.")],
    out: Annotated[Path, typer.Option(help="The certificate to write, JSON.")],
    mask: Annotated[
        Path | None, typer.Option(help="The mask, safetensors; without it the optimal one is made.")
    ] = None,
    criterion: Annotated[
        str | None, typer.Option(help="How the scores were made; stated in the claim, not checked.")
    ] = None,
    scope: Annotated[
        Literal["global", "tensor"],
        typer.Option(help="Masks to compare with: all, or those with as many in each tensor."),
    ] = "global",
    minimum_kept: Annotated[
        float, typer.Option(help="Only masks that keep this ratio of each tensor at least.")
    ] = 0.0,
    cost: Annotated[
        Path | None, typer.Option(help="Costs of pruning each weight, to certify a trust region.")
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="Only masks that prune at most this cost.")
    ] = None,
    multiplier: Annotated[
        float | None, typer.Option(help="The μ of the ranking by cost + μ·score.")
    ] = None,
) -> None:
    """Certify a mask: that it is optimal for the scores, or by exactly how much it is not.

    With --cost: by how much at most, among masks that prune no more of the cost.
    """
    from pins.selection.allocation import Allocation
    from verification.certificates.certificate import certify_files, summary
    from verification.certificates.trust_region import certify_region_files

    asked: dict[str, Any] = {
        "keep": keep,
        "scope": Allocation(by_tensor=scope == "tensor", minimum_kept=minimum_kept),
        "mask": mask,
        "criterion": criterion,
    }
    if cost is not None:
        document = certify_region_files(
            scores, cost, out, radius=radius, multiplier=multiplier, **asked
        )
    elif radius is None and multiplier is None:
        document = certify_files(scores, out, **asked)
    else:
        raise CertificateError("--radius and --multiplier are of a trust region: give its --cost")
    typer.echo(f"{out}: the mask {summary(document)}")


@app.command()
def check(certificate: Annotated[Path, typer.Argument(help="A certificate, JSON.")]) -> None:
    """Check a certificate: exit code 0 proved, 1 refuted, 2 unreadable."""
    from verification.certificates import fast_checker

    raise typer.Exit(fast_checker.main([str(certificate)]))


@app.command()
def verify(
    profile: Annotated[
        str, typer.Option(help="How thorough: quick (about a minute) or full.")
    ] = "quick",
    json: Annotated[Path | None, typer.Option(help="Write the ledger to this file too.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Model for the claims on real gradients: a folder or an id.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of all random numbers.")] = 0,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of results files; default: benchmarks/results of the checkout."),
    ] = None,
) -> None:
    """Run the ledger: each claim is checked, and its control must fail.

    Claims about measurements are ruled on from results files; they change no exit code.
    """
    from verification.claims.command import run_ledger

    raise typer.Exit(
        run_ledger(
            make_console(), profile=profile, file=json, model=model, seed=seed, results=results
        )
    )


@app.command()
def plot(
    name: Annotated[
        str | None, typer.Argument(help="A figure, or all; without it: which there are.")
    ] = None,
    run: Annotated[
        Path, typer.Option("--from", help="Folder of a run, or of a benchmark's results.")
    ] = Path("report"),
    out: Annotated[
        Path | None, typer.Option(help="The file: .svg, .png or .pdf; for all a folder.")
    ] = None,
) -> None:
    """Draw a figure from what a run wrote, and say what is to be seen in it."""
    from verification.plots.command import run_plot

    raise typer.Exit(run_plot(make_console(), name, run, out))


@app.command()
def explore(
    run: Annotated[Path, typer.Argument(help="Folder of a run of demo or prune.")],
    out: Annotated[
        Path | None, typer.Option(help="The page, HTML; default: explorer.html in the folder.")
    ] = None,
) -> None:
    """Write a page in which a pruning decision on the run's own weights can be played with."""
    from verification.explorer.command import run_explore

    typer.echo(run_explore(run, out))


@app.command()
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
    seed: Annotated[
        int | None, typer.Option(min=0, max=LARGEST_SEED, help="Of all random numbers.")
    ] = None,
    keep_scores: Annotated[
        bool, typer.Option(help="Keep the scores of every decision, 4 bytes a weight.")
    ] = False,
    full: Annotated[bool, typer.Option(help="Shorten nothing: longer rows, more of all.")] = False,
) -> None:
    """Fine-tune, prune and prove a real model on real text; write a report. Offline, minutes."""
    from verification.demo.command import run_demo

    given = {
        "model": model,
        "task": task,
        "criterion": criterion,
        "sparsity": sparsity,
        "dense_steps": dense_steps,
        "sparse_steps": sparse_steps,
        "cooldown": cooldown,
        "seed": seed,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(
        run_demo(make_console(), out, {**settings, "keep_scores": keep_scores}, full=full)
    )
