"""Settings of `pins oneshot`: what is refused, and the options that they become."""

from dataclasses import fields
from fractions import Fraction
from typing import Any, get_args

import pytest

from pins.errors import PinsError
from pins.oneshot.cli_options import oneshot_signature
from pins.oneshot.settings import CHOICES, Settings

PARAMETERS = oneshot_signature().parameters


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"method": "obc"}, "method is 'obc': "),
        ({"scope": "column"}, "scope is 'column': "),
        ({"learning_rate": 0.1}, "learning_rate is 0.1, and the method 'wanda': pins alone"),
        ({"method": "pins", "learning_rate": -0.1}, "learning_rate is -0.1"),
        ({"method": "pins", "learning_rate": float("nan")}, "at a rate of at least 0 and at most"),
        ({"sparsity": 1.5}, "sparsity is 1.5: it is a ratio"),
        ({"sparsity": -0.1}, "sparsity is -0.1: it is a ratio"),
        ({"sparsity": float("nan")}, "sparsity is nan: it is a ratio"),
        ({"pattern": "2:4", "sparsity": 0.2}, "give a sparsity of at least 0.5"),
        ({"pattern": "4:2"}, "give N:M with 1 ≤ N ≤ M"),
        ({"skip_indivisible": True}, "skip_indivisible belong to a pattern"),
        ({"calibration": 0}, "calibration is 0: it is at least 1"),
        ({"length": 1}, "length is 1: it is at least 2"),
        ({"stride": 0}, "stride is 0: it is at least 1"),
        ({"length": 8, "stride": 9}, "tokens between two windows would not be scored"),
        ({"test_windows": 0}, "test_windows is 0: it is at least 1"),
        ({"seed": -1}, "seed is -1: it is at least 0"),
        ({"seed": 2**63}, "seed is 9223372036854775808: it is at least 0 and at most"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(PinsError) as refused:
        Settings(model="m", **changes)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "ratio"),
    [
        ({}, Fraction(1, 2)),
        ({"sparsity": 0.1}, Fraction(1, 10)),
        ({"sparsity": 1}, Fraction(1)),
        ({"pattern": "1:3"}, Fraction(2, 3)),
        ({"pattern": "2:4", "sparsity": 0.7}, Fraction(7, 10)),
    ],
)
def test_the_sparsity_is_exact(changes: dict[str, Any], ratio: Fraction) -> None:
    assert Settings(model="m", **changes).final_sparsity() == ratio


def test_every_setting_is_an_option() -> None:
    names = [field.name for field in fields(Settings)]
    assert list(PARAMETERS) == ["out", "resume", "json", *names]
    for name, parameter in PARAMETERS.items():
        text = get_args(parameter.annotation)[1].help
        assert text[0].isupper()
        assert text.endswith((".", "]"))
        assert text.count("default:") <= 1, "two defaults"
        for choice in CHOICES.get(name, ()):
            assert choice in text
