"""Checks that the settings of every command share."""

from collections.abc import Mapping, Sequence

from pins.errors import SettingError
from pins.utils.lookup import choose_one
from pins.utils.text_files import shown

LARGEST = 2**63 - 1  # of a whole number in torch; as a seed also in numpy


def require_chosen(
    settings: object, choices: Mapping[str, Sequence[str]], optional: Sequence[str] = ()
) -> None:
    """Check that settings are among their choices, or None where they are `optional`.

    Raises:
        SettingError: names the setting, its value and the choices.
    """
    for name, known in choices.items():
        value = getattr(settings, name)
        if value not in known and not (value is None and name in optional):
            raise SettingError(f"{name} is {shown(value)}: {choose_one(value, known)}")


def require_least(settings: object, minimum: Mapping[str, int]) -> None:
    """Check that settings that are not None are at least their minimum, and at most `LARGEST`.

    Raises:
        SettingError: names the setting, its value and both.
    """
    for name, least in minimum.items():
        value = getattr(settings, name)
        if value is not None and not least <= value <= LARGEST:
            raise SettingError(
                f"{name} is {shown(value)}: it is at least {least} and at most {LARGEST}"
            )
