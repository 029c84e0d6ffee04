"""The options of `pins prune` read well: every setting, what it means, what it is by default."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest

from pins.importance.criteria import CRITERIA
from pins.importance.curvature.sources import CURVATURES
from pins.importance.smoothing import SMOOTHINGS
from pins.importance.trust_region.criterion import TrustRegion
from pins.pruning.schedules import SCHEDULES
from pins.runs.cli_options import HEADINGS, prune_signature
from pins.runs.settings import AUTHORS, CHOICES, TRUST_REGION, Settings
from pins.tasks import TASKS
from pins.utils.setting_options import setting_descriptions

PARAMETERS = prune_signature().parameters


def help_of(name: str) -> str:
    """What is printed beside an option."""
    assert get_origin(PARAMETERS[name].annotation) is Annotated
    option: Any = get_args(PARAMETERS[name].annotation)[1]
    return str(option.help)


def test_every_setting_is_an_option_with_a_description() -> None:
    names = [field.name for field in fields(Settings)]
    descriptions = setting_descriptions(Settings)
    assert list(descriptions) == names
    assert all(text.endswith(".") and len(text) > 12 for text in descriptions.values())
    assert list(PARAMETERS) == ["config", "out", "resume", "json", *names]


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_option_is_plain_text_that_begins_with_a_word(name: str) -> None:
    text = help_of(name)
    assert re.fullmatch(r"(A|ΔT|[A-Z][a-z]+)[ ,].*[.\]]", text), text
    assert not re.search(r"`|\bSettings\b|CHOICES", text)
    # a value that can be given stands as it is to be typed, never with a capital
    values = {*TASKS, *(value for each in CHOICES.values() for value in each)}
    values |= {"cuda", "mps", "cpu", "float32", "bfloat16", "float16"}
    assert text.split()[0].rstrip(",:").lower() not in values
    for value in values - {"e2e", "text", "tensor", "average", "none", "window"}:
        assert not re.search(rf"\b{value.capitalize()}\b", text)


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_every_default_is_told(field: Any) -> None:
    text = help_of(field.name)
    if field.default is True or field.default is False:
        assert f"[default: {'on' if field.default else 'off'}]" in text
    elif field.default is None:
        # what stands for it, in words; steps are the other way to say epochs
        assert "default: " in text or field.name in ("steps", "test_rows")
    elif field.default != ():
        assert f"[default: {field.default}]" in text
    assert PARAMETERS[field.name].default is None  # so that a file may say it


def test_every_choice_and_every_task_is_named() -> None:
    for name, choices in CHOICES.items():
        assert f"One of {', '.join(choices)}." in help_of(name)
    assert re.findall(r"[\w-]+", help_of("task").partition("by: ")[2].partition(".")[0]) == [
        *list(TASKS)[:-1],
        "or",
        list(TASKS)[-1],
    ]


def test_choices_are_the_names_of_the_tables() -> None:
    assert CHOICES["criterion"] == (*CRITERIA, AUTHORS)
    assert CHOICES["schedule"] == tuple(SCHEDULES)
    assert CHOICES["smoothing"] == tuple(SMOOTHINGS)
    assert CHOICES["curvature"] == tuple(CURVATURES)
    assert TrustRegion.name == TRUST_REGION


def test_every_option_has_a_heading() -> None:
    headings = [get_args(each.annotation)[1].rich_help_panel for each in PARAMETERS.values()]
    assert list(dict.fromkeys(headings)) == list(HEADINGS.values())
    assert HEADINGS.keys() <= PARAMETERS.keys()


def test_types_are_those_of_the_settings() -> None:
    kinds = {name: get_args(PARAMETERS[name].annotation)[0] for name in PARAMETERS}
    assert kinds["sparsity"] == float | None
    assert kinds["steps"] == int | None
    assert kinds["data"] == Path | None
    assert kinds["self_regularization"] == bool | None
    assert kinds["without_quirks"] == list[str] | None
    assert kinds["resume"] is bool
