"""The options of `pins oneshot`: one for each setting, of the same name, type and description."""

import inspect
from pathlib import Path

from pins.oneshot.settings import CHOICES, Settings
from pins.utils.output import JSON_HELP
from pins.utils.setting_options import option, setting_options


def oneshot_signature() -> inspect.Signature:
    """The signature that typer makes the options of: what is not given is None."""
    return inspect.Signature(
        [
            option("out", Path | None, "Folder for the results: new, or empty. [required]"),
            option(
                "resume",
                bool,
                "Go on after the last block that is done, or begin where there is none. "
                "[default: off]",
                default=False,
            ),
            option("json", bool, JSON_HELP, default=False, flag="--json"),
            *setting_options(Settings, CHOICES),
        ]
    )
