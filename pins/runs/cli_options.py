"""The options of `pins prune`: one for each setting, of the same name, type and description."""

import inspect
from pathlib import Path

from pins.runs.settings import CHOICES, Settings
from pins.utils.output import JSON_HELP
from pins.utils.setting_options import option, setting_options

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
    parameters = [
        option("config", Path | None, "A TOML file with the same names; options come before it."),
        option("out", Path | None, "Folder for the results: new, or empty."),
        option(
            "resume",
            bool,
            "Go on from the last checkpoint in the folder, or begin where there is none. "
            "[default: off]",
            default=False,
        ),
        option("json", bool, JSON_HELP, default=False, flag="--json"),
        *setting_options(Settings, CHOICES, {"without_quirks": list[str]}),
    ]
    heading = ""
    for parameter in parameters:
        heading = HEADINGS.get(parameter.name, heading)
        parameter.annotation.__metadata__[0].rich_help_panel = heading
    return inspect.Signature(parameters)
