"""What is said of installing PINS: from a checkout, or from its address where it has one."""

import pytest

from pins.utils import repository
from pins.utils.repository import install_command, linked

ADDRESS = "https://example.org/pins"


def test_without_an_address_pins_is_installed_from_a_checkout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repository, "REPOSITORY", "")
    assert install_command("prune") == "pip install '.[prune]' in a checkout of PINS"
    assert linked("PINS") == "PINS"


def test_with_an_address_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "REPOSITORY", ADDRESS)
    assert install_command("demo") == f"pip install 'pins-pruning[demo] @ git+{ADDRESS}'"
    assert linked("PINS") == f"[PINS]({ADDRESS})"
