"""Citation, workflow, hooks and forms agree with the project, and promise nothing untrue."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import pins
from pins.utils.repository import REPOSITORY

yaml = pytest.importorskip("yaml", reason="the hub's library brings PyYAML")

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOI = "10.18653/v1/2023.findings-acl.573"  # of the paper
PROMISE = re.compile(r"pip install [^\n]*pins-pruning(?![^\n]*git\+)")


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def test_the_citation_is_that_of_this_version_and_of_the_paper() -> None:
    citation = load(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == pins.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == [{"name": "The PINS developers"}]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Ren", "Zhu"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"version = {{{pins.__version__}}}" in readme
    assert paper["title"] in readme
    assert paper["doi"] == DOI
    assert DOI in readme


def test_the_address_stands_nowhere_before_there_is_one() -> None:
    assert bool(REPOSITORY) == ("urls" in PROJECT)
    assert load(ROOT / "CITATION.cff").get("repository-code", "") == REPOSITORY


def test_nothing_promises_a_package_on_an_index() -> None:
    assert PROMISE.search("`pip install 'pins-pruning[prune]'`")
    assert not PROMISE.search("pip install 'pins-pruning[prune] @ git+https://…'")
    folders = ("pins", "solvers", "verification", "benchmarks", "docs")
    files = [*ROOT.glob("*.*"), *(file for each in folders for file in (ROOT / each).rglob("*.*"))]
    for file in files:
        if file.suffix in (".py", ".md", ".toml", ".cff", ".j2"):
            assert not PROMISE.search(file.read_text(encoding="utf-8")), file


def test_the_workflow_makes_what_the_makefile_has_on_every_python_that_is_promised() -> None:
    (job,) = load(GITHUB / "workflows" / "ci.yml")["jobs"].values()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert [each for each in commands if each.startswith("make")] == [
        "make check",
        "make test",
        "make docs",
    ]
    for target in ("check", "test", "docs"):
        assert re.search(rf"^{target}:", makefile, flags=re.M)
    pythons = job["strategy"]["matrix"]["python"]
    promised = [
        each.removeprefix("Programming Language :: Python :: ") for each in PROJECT["classifiers"]
    ]
    assert pythons == [each for each in promised if re.fullmatch(r"3\.\d+", each)]
    assert PROJECT["requires-python"] == f">={pythons[0]}"


def test_actionlint_finds_nothing_in_the_workflow() -> None:
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("actionlint is not installed")
    files = [str(file) for file in (GITHUB / "workflows").iterdir()]
    done = subprocess.run([program, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hooks_are_the_checks_of_the_projects_own_environment() -> None:
    (source,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert source["repo"] == "local"
    entries = [hook["entry"] for hook in source["hooks"]]
    assert entries == [".venv/bin/ruff check", ".venv/bin/ruff format", ".venv/bin/mypy"]
    assert all(hook["language"] == "system" for hook in source["hooks"])


@pytest.mark.parametrize("name", ["bug", "wrong-mask", "question"])
def test_a_form_has_what_a_form_needs(name: str) -> None:
    form = load(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0
    for part in form["body"]:
        assert part["type"] in ("markdown", "textarea")
        assert (
            "value" in part["attributes"]
            if part["type"] == "markdown"
            else part["attributes"]["label"]
        )
