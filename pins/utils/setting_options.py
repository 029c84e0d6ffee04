"""Options of a command from a dataclass of settings: of the same names, types and descriptions."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from types import UnionType
from typing import Annotated, Any, get_args, get_type_hints

import typer


def setting_options(
    settings: type, choices: Mapping[str, Sequence[str]], kinds: Mapping[str, Any] | None = None
) -> list[inspect.Parameter]:
    """An option for each setting; what is not given is None.

    Args:
        settings: a dataclass whose docstring describes its attributes.
        choices: the allowed values of some.
        kinds: types of options that differ from those of their settings.
    """
    descriptions, types = setting_descriptions(settings), get_type_hints(settings)
    found = []
    for field in fields(settings):
        text = descriptions[field.name]
        if field.name in choices:
            text += f" One of {', '.join(choices[field.name])}."
        if isinstance(field.default, tuple):
            text += " Can be given several times."
        elif isinstance(field.default, bool):
            text += f" [default: {'on' if field.default else 'off'}]"
        elif field.default is MISSING:
            text += " [required]"
        elif field.default is not None:
            text += f" [default: {field.default}]"
        kind = (kinds or {}).get(field.name, types[field.name])
        found.append(option(field.name, _optional(kind), text, choices=choices))
    return found


def setting_descriptions(settings: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each of its attributes, as plain text."""
    lines = inspect.cleandoc(settings.__doc__ or "").partition("Attributes:\n")[2].splitlines()
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


def option(
    name: str,
    kind: Any,
    text: str,
    default: Any = None,
    flag: str | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> inspect.Parameter:
    """A parameter that typer makes an option of."""
    known = (choices or {}).get(name)
    made = typer.Option(
        *([flag] if flag else []),
        help=text,
        show_default=False,
        autocompletion=None if known is None else lambda: list(known),
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, made]
    )


def _optional(kind: Any) -> Any:
    return kind if isinstance(kind, UnionType) and type(None) in get_args(kind) else kind | None
