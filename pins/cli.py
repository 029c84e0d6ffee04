"""The command line: PINS' own commands, and those that installed packages register.

A command is an entry point of the group `pins.commands`: its name, and a function for typer in a
module that imports little, because every `--help` loads it. The certifier of a command that prunes
is an entry point of the group `pins.certifier` with that command's name.
"""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pins.errors import EntryPointError, PinsError, SettingError
from pins.oneshot.cli_options import oneshot_signature
from pins.runs.cli_options import prune_signature
from pins.runs.settings import RENAMED
from pins.utils.entry_points import hidden, load, registered
from pins.utils.lookup import choose_one
from pins.utils.output import discard_unwritten, prepare_streams, progress_console, require_open
from pins.utils.repository import REINSTALL, install_command

if TYPE_CHECKING:
    from pins.pruning.final_decision import Certify

EXIT_CODES = """\b
Exit codes:
  0    done, proved, or every claim holds
  1    refuted, or a claim does not hold
  2    not decided: bad input, a missing file or library, a defect, or the
       result could not be printed
  130  stopped from the keyboard
"""
# of the extra 'demo'; transformers is of another, and its module says so itself
DEMO_EXTRA = ("jinja2", "matplotlib")


def main() -> None:
    """Run a command; an error that PINS raises on purpose becomes one line and exit code 2.

    A result that could not be printed gives 2 as well: 1 would say that it is refuted.
    """
    prepare_streams()
    code: Any = 2
    try:
        try:
            with _ranks():
                _run(sys.argv[1:])
        finally:
            sys.stdout.flush()  # a reader that has gone is noticed here at the latest
    except SystemExit as stopped:
        # typer ends with 1 when the reader has gone
        code = 2 if isinstance(stopped.__context__, BrokenPipeError) else stopped.code
    except BrokenPipeError:
        pass  # `pins verify | head` knows it
    except Exception as error:
        line = _line(error)
        with suppress(OSError):
            print(f"pins: {line}" if line else traceback.format_exc(), file=sys.stderr)  # noqa: T201
    discard_unwritten()
    sys.exit(code)


def _run(arguments: list[str]) -> None:
    name = arguments[0] if arguments else None
    for names in RENAMED.items():
        old, new = (f"--{each.replace('_', '-')}" for each in names)
        if any(argument.partition("=")[0] == old for argument in arguments):
            raise SettingError(f"{old} is called {new} now: give that")
    if name in OWN or name in registered("pins.commands"):
        # alone: typer reads the options of a group by pydantic, which takes longer than all else
        command_line(name)(arguments[1:], prog_name=f"pins {name}")
    else:
        command_line()(prog_name="pins")


def _ranks() -> AbstractContextManager[None]:
    """The processes that a launcher started speak with one voice; alone, torch is not loaded."""
    if "WORLD_SIZE" not in os.environ:
        return nullcontext()
    from pins.distributed.launch import only_rank_zero_prints

    return only_rank_zero_prints()


def _line(error: Exception) -> str | None:
    """An error in one line; None: it is a defect, and its traceback is wanted."""
    if isinstance(error, ModuleNotFoundError) and error.name in DEMO_EXTRA:
        return f"{error.name} is not installed: run {install_command('demo')}"
    if isinstance(error, ImportError):
        return hidden(error.name)
    if isinstance(error, PinsError | OSError | UnicodeError):
        # the last two: a path that the system or an encoding refuses before PINS could ask
        return " ".join(str(error).split())
    return None


class Command(TyperCommand):
    """A command whose help has options under the headings of `rich_help_panel`, without rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, heading by heading."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                usual = parameter.param_type_name.capitalize() + "s"
                heading = getattr(parameter, "rich_help_panel", None) or usual
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class Commands(TyperGroup):
    """All commands; an unknown name is answered with the known ones."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name.

        Raises:
            PinsError: there is none.
        """
        command = super().get_command(ctx, cmd_name)
        if command is None and not ctx.resilient_parsing:  # in which a shell completes words
            known = choose_one(cmd_name, self.commands)
            stale = (
                "" if len(self.commands) > len(OWN) else f"; no others are installed: {REINSTALL}"
            )
            raise PinsError(f"there is no command {cmd_name!r}: {known}{stale}")
        return command


def command_line(only: str | None = None) -> typer.Typer:
    """The commands of PINS and of the packages that register some; or only the one of that name."""
    app = typer.Typer(
        add_completion=only is None,
        cls=Commands,
        help="Prune language models by a principled importance, and prove each decision.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    if only is None:
        app.callback()(_options)
    for name, command in {**OWN, **registered("pins.commands")}.items():
        if only not in (None, name):
            continue
        try:
            function: Any = load(command) if isinstance(command, EntryPoint) else command
            app.command(name, cls=Command)(function)
        except EntryPointError as error:
            app.command(name, help=f"Not available: {error}", context_settings=ANYTHING)(
                _refuse(error)
            )
    return app


ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True}


def _refuse(error: EntryPointError) -> Callable[[], None]:
    def refuse() -> None:
        raise error

    return refuse


def find_certifier(command: str) -> "tuple[Certify | None, str]":
    """What certifies the last decision of a command; or None, and in words why there is none."""
    entry = registered("pins.certifier").get(command)
    if entry is None:
        return None, f"no installed package registers one for {command}: {REINSTALL}"
    try:
        return load(entry), ""
    except EntryPointError as error:
        return None, str(error)


def _version(asked: bool) -> None:
    if asked:
        from pins import __version__

        typer.echo(f"pins {__version__}")
        raise typer.Exit


VERSION = typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")


def _options(version: Annotated[bool, VERSION] = False) -> None:
    pass


def prune(
    config: Path | None = None,
    out: Path | None = None,
    resume: bool = False,
    json: bool = False,
    **settings: Any,
) -> None:
    """Prune a model while it is fine-tuned, with self-regularisation; write a model that loads."""
    from pins.runs.command import run_prune

    given = {name: value for name, value in settings.items() if value is not None}
    if out is not None:
        given["out"] = out
    certify, missing = find_certifier("prune")
    raise typer.Exit(
        run_prune(
            progress_console(json),
            given,
            config=config,
            resume=resume,
            certify=certify,
            missing=missing,
            json=json,
        )
    )


prune.__signature__ = prune_signature()  # type: ignore[attr-defined]


def oneshot(
    out: Path | None = None,
    resume: bool = False,
    json: bool = False,
    **settings: Any,
) -> None:
    """Prune a language model in one shot, block by block; write a model that loads."""
    from pins.oneshot.command import run_oneshot
    from pins.oneshot.settings import Settings

    given = {name: value for name, value in settings.items() if value is not None}
    for name, value, advice in (("out", out, "DIR"), ("model", given.get("model"), "DIR or an id")):
        if value is None:
            raise SettingError(f"there is no {name}: give --{name} {advice}")
    assert out is not None, "asked above"
    certify, missing = find_certifier("oneshot")
    certify_choice: Any = find_certifier("budget")[0] if "budget" in given else None
    raise typer.Exit(
        run_oneshot(
            progress_console(json),
            Settings(**given),
            out,
            resume=resume,
            certify=certify,
            certify_choice=certify_choice,
            missing=missing,
            json=json,
        )
    )


oneshot.__signature__ = oneshot_signature()  # type: ignore[attr-defined]


def pack(
    model: Annotated[Path, typer.Argument(help="Folder of a pruned model.")],
    mask: Annotated[
        Path | None,
        typer.Option(help="Its masks; default: masks.safetensors in the folder, else its zeros."),
    ] = None,
) -> None:
    """Write packed.safetensors beside a model: a bit a weight, and the kept values."""
    from pins import masks
    from pins.models import sparse_format
    from pins.models.weight_files import unread_files

    own = model / "masks.safetensors"
    given = mask or (own if own.exists() else None)
    file = sparse_format.pack_folder(model, None if given is None else masks.load(given))
    for unread in unread_files(model):
        typer.echo(f"{unread}: not read, since the index does not name it", err=True)
    typer.echo(f"{file}: {file.stat().st_size:,} bytes")


def unpack(
    model: Annotated[
        Path,
        typer.Argument(help="Folder with packed.safetensors, or with weights in sparse-bitmask."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the dense model.")],
) -> None:
    """Write the model back from its packed form, bit for bit."""
    from pins.models import sparse_bitmask, sparse_format

    require_open()
    own = (model / sparse_format.PACKED).exists()
    typer.echo((sparse_format if own else sparse_bitmask).unpack_folder(model, out))


OWN: dict[str, Callable[..., None]] = {
    "prune": prune,
    "oneshot": oneshot,
    "pack": pack,
    "unpack": unpack,
}
