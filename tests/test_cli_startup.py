"""How `pins` starts: what it imports, which commands it finds, and what may not break it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pins.cli import OWN
from pins.utils.entry_points import registered

COMMANDS = [*OWN, *registered("pins.commands")]

# prints, after each command line, the libraries that are loaded by then
LOADED = """
import json, sys
from pins.cli import main
for line in json.loads(sys.argv[1]):
    sys.argv = ["pins", *line]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, (line, stopped.code)
    loaded = {"torch", "numpy", "pydantic", "rich"} & sys.modules.keys()
    print(line, sorted(loaded), file=sys.stderr)
"""


def run(*arguments: object, folder: Path, path: Path | None = None) -> tuple[int, str, str]:
    """Python in a folder, with another one before the path: exit code, output, errors."""
    before = os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{before}" if path else before}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_all_commands_are_found() -> None:
    assert {*COMMANDS} >= {"prune", "pack", "unpack", "certify", "check", "budget", "verify"}
    assert {*COMMANDS} >= {"plot", "explore", "demo", "export-vipr"}
    assert registered("pins.certifier").keys() >= {"prune"}


def test_help_and_version_load_no_heavy_library(tmp_path: Path) -> None:
    lines = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    code, said, err = run("-c", LOADED, json.dumps(lines), folder=tmp_path)
    assert code == 0, err
    assert err.splitlines() == [f"{line} []" for line in lines]
    for name in COMMANDS:
        assert f"\n  {name} " in said
        assert f"Usage: pins {name} " in said


def test_the_public_names_are_imported_when_first_used(tmp_path: Path) -> None:
    code = """
import sys, pins
from pins import PinsError, errors
assert errors.PinsError is pins.PinsError and "Pruner" in dir(pins) and "torch" not in sys.modules
from pins import Pruner, masks
import pins.masks, pins.pruning.pruner, pickle
assert pins.masks is masks and pins.pruning.pruner.Pruner is Pruner is pins.Pruner
assert pickle.loads(pickle.dumps(pins.Allocation())) == pins.Allocation()
"""
    assert run("-c", code, folder=tmp_path) == (0, "", "")


def test_a_check_loads_no_torch(tmp_path: Path) -> None:
    code = "\n".join(
        (
            "import sys",
            "from pins.cli import main",
            "sys.argv = ['pins', 'check', 'no.json', '--json']",
            "try:",
            "    main()",
            "finally:",
            "    print('torch' in sys.modules, 'rich' in sys.modules, file=sys.stderr)",
        )
    )
    done, said, err = run("-c", code, folder=tmp_path)
    assert (done, err) == (2, "False False\n")
    assert json.loads(said)["outcome"] == "unreadable"


def test_folders_of_the_same_names_break_only_what_needs_ours(tmp_path: Path) -> None:
    ours = tmp_path / "verification" / "__init__.py"
    ours.parent.mkdir()
    ours.write_text("raise SystemExit('of the user')")
    code, said, err = run("-m", "pins", "--help", folder=tmp_path)
    assert (code, err) == (0, "")
    assert re.search(r"  check +Not available: ", said)
    assert run("-m", "pins", "prune", "--help", folder=tmp_path)[0] == 0
    code, said, err = run("-m", "pins", "check", "cert.json", "--json", folder=tmp_path)
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert f"{ours} hides " in err
    assert "verification/__init__.py: run the command in another folder, or rename" in err


def test_a_hidden_package_deeper_down_is_named_too(tmp_path: Path) -> None:
    module = tmp_path / "solvers.py"
    module.touch()
    assert run("-m", "pins", "--help", folder=tmp_path)[0] == 0
    code, said, err = run("-m", "pins", "certify", "s", "--keep", 1, "--out", "c", folder=tmp_path)
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"pins: {module} hides ")


def installed(folder: Path, name: str, entry_points: str) -> Path:
    """The metadata of an installed distribution."""
    metadata = folder / f"{name.replace('-', '_')}-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    return folder


def test_a_package_adds_a_command(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", "hello", "[pins.commands]\nhello = hello:greet\n")
    (site / "hello.py").write_text(
        'def greet(name: str) -> None:\n    """Greet."""\n    print("Hello", name)\n'
    )
    assert run("-m", "pins", "hello", "you", folder=tmp_path, path=site) == (0, "Hello you\n", "")
    said = run("-m", "pins", "--help", folder=tmp_path, path=site)[1]
    assert re.search(r"  hello +Greet\.", said)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("verification.gone:greet", "there is no module verification.gone"),
        ("verification.commands:gone", "has no attribute 'gone'"),
    ],
)
def test_metadata_of_another_version_says_what_to_run(
    tmp_path: Path, value: str, fault: str
) -> None:
    site = installed(tmp_path, "hello", f"[pins.commands]\nhello = {value}\n")
    code, _, err = run("-m", "pins", "hello", "--loud", "you", folder=tmp_path, path=site)
    assert (code, err.count("\n")) == (2, 1)
    assert f"hello is registered as {value}, and " in err
    assert fault in err
    assert "install hello again" in err
    assert "pip install --no-deps -e ." in err


def test_metadata_without_commands_says_what_to_run(tmp_path: Path) -> None:
    site = installed(tmp_path, "pins-pruning", "")
    code, _, err = run("-m", "pins", "check", "cert.json", folder=tmp_path, path=site)
    assert (code, err.count("\n")) == (2, 1)
    assert (
        "there is no command 'check': choose one of prune, oneshot, pack, unpack; no others" in err
    )
    assert "pip install --no-deps -e ." in err


def test_a_shell_completes_commands_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_PINS_COMPLETE", "complete_bash")
    for words, completed in (
        ("pins ver", "verify"),
        ("pins prune --criterion ma", "magnitude"),
        ("pins prune --layer-min", "--layer-minimum"),
        ("pins nothing --x", ""),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        assert run("-m", "pins", folder=tmp_path)[1].strip() == completed, words


@pytest.mark.parametrize("arguments", [["--version"], ["plot", "--list"]])
def test_a_reader_that_has_gone_is_no_refutation(tmp_path: Path, arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "pins", *arguments],
        cwd=tmp_path,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (2, "")
