"""The options of `pins prune`: one for each setting, of the same name, type and description."""

import inspect
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_type_hints

import typer

from pins.runs.settings import CHOICES, Settings
from pins.utils.output import JSON_HELP

HEADINGS = {  # of the help; each begins at this option
    "config": "Run",
    "model": "Model and data",
    "sparsity": "Importance",
    "schedule": "Schedule",
    "scope": "Masks to choose from",
    "self_regularization": "Self-regularisation",
    "epochs": "Fine-tuning",
    "evaluate_every": "Evaluation and checkpoints",
    "seed": "Machine",
}


def prune_signature() -> inspect.Signature:
    """The signature that typer makes the options of: what is not given is None."""
    descriptions, types = setting_descriptions(), get_type_hints(Settings)
    parameters = [
        _option("config", Path | None, "A TOML file with the same names; options come before it."),
        _option("out", Path | None, "Folder for the results: new, or empty."),
        _option(
            "resume",
            bool,
            "Go on from the last checkpoint in the folder, or begin where there is none. "
            "[default: off]",
            default=False,
        ),
        _option("json", bool, JSON_HELP, default=False, flag="--json"),
    ]
    for field in fields(Settings):
        text = descriptions[field.name]
        if field.name in CHOICES:
            text += f" One of {', '.join(CHOICES[field.name])}."
        if isinstance(field.default, tuple):
            text += " Can be given several times."
        elif isinstance(field.default, bool):
            text += f" [default: {'on' if field.default else 'off'}]"
        elif field.default is not None:
            text += f" [default: {field.default}]"
        kind = list[str] if field.name == "without_quirks" else types[field.name]
        parameters.append(_option(field.name, _optional(kind), text))
    heading = ""
    for parameter in parameters:
        heading = HEADINGS.get(parameter.name, heading)
        parameter.annotation.__metadata__[0].rich_help_panel = heading
    return inspect.Signature(parameters)


def setting_descriptions() -> dict[str, str]:
    """What the docstring of `Settings` says of each of its attributes, as plain text."""
    lines = inspect.cleandoc(Settings.__doc__ or "").partition("Attributes:\n")[2].splitlines()
    descriptions: dict[str, str] = {}
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if indent == 4:
            name, _, text = line.strip().partition(": ")
            descriptions[name] = text
        elif line.strip():
            descriptions[name] += f" {line.strip()}"
    plain = {name: text.replace("`", "") for name, text in descriptions.items()}
    return {name: text[:1].upper() + text[1:] for name, text in plain.items()}


def _optional(kind: Any) -> Any:
    return kind if isinstance(kind, UnionType) and type(None) in get_args(kind) else kind | None


def _option(
    name: str, kind: Any, text: str, default: Any = None, flag: str | None = None
) -> inspect.Parameter:
    option = typer.Option(
        *([flag] if flag else []),
        help=text,
        show_default=False,
        autocompletion=(lambda: list(CHOICES[name])) if name in CHOICES else None,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )
