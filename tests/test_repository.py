"""The repository is what its documents say: imports, public names, examples, wheel."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
import typer

import pins
import solvers
import verification.checker
from benchmarks.documents import readme
from benchmarks.documents.code_blocks import CodeBlock, code_blocks
from benchmarks.documents.lessons import run_blocks
from pins import masks as masks_module
from pins.cli import command_line
from verification.certificates.selection import save_scores
from verification.explorer.page import SCRIPTS, STYLE, TEMPLATE

ROOT = Path(__file__).parents[1]
PACKAGES = ("pins", "solvers", "verification", "benchmarks")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))  # the course has its own tests
BLOCKS = [(page.name, block) for page in PAGES for block in code_blocks(page.read_text("utf-8"))]
REFERENCE = [
    (name, block)
    for name in ("selection", "constraints", "budget")
    for block in code_blocks((ROOT / f"docs/reference/{name}.md").read_text("utf-8"))
]
EXAMPLES = [(name, block) for name, block in BLOCKS + REFERENCE if block.language == "python"]

# where a library may be imported
LIBRARIES = {
    "pulp": {"solvers/cbc.py", "solvers/pulp_status.py"},
    "scipy.optimize": {"solvers/highs_call.py", "solvers/relaxation.py"},
    "hypothesis": {
        "verification/strategies/instances.py",
        "verification/strategies/programs.py",
        "verification/strategies/schedules.py",
        "verification/strategies/search.py",
        "verification/strategies/tensors.py",
        "verification/strategies/trees.py",
    },
    "pytest": {"pins/pytest_plugin.py", "verification/pytest_items.py"},
    "matplotlib": {
        "benchmarks/distributed/driver.py",
        "benchmarks/harness/benchmark.py",
        "benchmarks/selection/driver.py",
        "verification/plots/backend.py",
        "verification/plots/registry.py",
        "verification/plots/accuracy.py",
        "verification/plots/criteria.py",
        "verification/plots/losses.py",
        "verification/plots/perplexity.py",
        "verification/plots/programs.py",
        "verification/plots/ranks.py",
        "verification/plots/runs.py",
        "verification/plots/scope_map.py",
        "verification/plots/style.py",
        "verification/plots/times.py",
    },
    "jinja2": {"verification/explorer/page.py"},
    "triton": {"pins/selection/scan/triton_kernels.py"},
    "transformers": {
        "pins/models/auto_classes.py",
        "pins/trainer/pruning_trainer.py",
        "pins/trainer/callback.py",
        "benchmarks/overhead/training_steps.py",
    },
    "datasets": {"pins/tasks/readers/hub.py"},
    "torchmetrics": {"pins/tasks/metrics.py", "pins/tasks/data_to_text.py"},
    "sacrebleu": {"pins/tasks/data_to_text.py"},
    "seqeval": {"pins/tasks/named_entities.py"},
    "huggingface_hub": {"pins/models/pretrained.py", "pins/runs/model_card.py"},
}


@cache
def sources() -> list[tuple[str, ast.Module]]:
    return [
        (file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8")))
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
    ]


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def within(name: str, library: str) -> bool:
    return name == library or name.startswith(library + ".")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = {path for path, tree in sources() if any(within(n, library) for n in imported(tree))}
    assert users == LIBRARIES[library]


def test_the_checker_imports_the_standard_library_alone() -> None:
    tree = dict(sources())["verification/checker.py"]
    assert {name.split(".")[0] for name in imported(tree)} <= sys.stdlib_module_names


def test_no_pickle_is_loaded_and_nothing_is_evaluated() -> None:
    for path, tree in sources():
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not calls & {"eval", "exec", "torch.load", "pickle.load", "pickle.loads"}, path


LOADERS = ("from_pretrained", "from_config", "pipeline")  # of transformers


def loads(tree: ast.AST) -> list[bool]:
    """For each call that loads a model or a part of it: whether it forbids the model's own code."""
    return [
        any(k.arg == "trust_remote_code" and ast.unparse(k.value) == "False" for k in node.keywords)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", "") in LOADERS or getattr(node.func, "id", "") in LOADERS)
    ]


def test_no_code_that_comes_with_a_model_is_run() -> None:
    found = {path: each for path, tree in sources() if (each := loads(tree))}
    assert found == {"pins/models/auto_classes.py": [True], "pins/models/pretrained.py": [True]}


@pytest.mark.parametrize(
    "call",
    [
        "transformers.AutoModel.from_pretrained(folder)",
        "from_pretrained(folder, trust_remote_code=None)",
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)",
        "AutoConfig.from_pretrained(folder, **options)",
        "transformers.pipeline('fill-mask', folder)",
    ],
)
def test_a_call_that_may_run_code_is_found(call: str) -> None:
    assert loads(ast.parse(call)) == [False]


def test_public_names_are_sorted_and_exist() -> None:
    for package, order in ((pins, None), (solvers, _capitals_first)):
        assert list(package.__all__) == sorted(package.__all__, key=order)
        for name in package.__all__:
            assert name.isupper() or getattr(package, name).__doc__, name


@pytest.mark.parametrize(
    ("path", "names"),
    {
        "pins.errors": ("PinsError", "ImportanceError", "CardinalityError"),
        "pins.masks": ("apply", "count", "count_each", "compare", "save", "load"),
        "pins.trainer": ("PruningCallback", "PruningTrainer"),
        "pins.tasks": ("TASKS", "Task", "TextClassification", "load_task"),
        "verification.laws": ("LAWS", "exact_count", "theorem_1"),
        "verification.strategies": ("scores", "instances", "counterexample", "programs"),
        "verification.checker": ("check", "main"),
    }.items(),
)
def test_import_paths_that_people_use_stay(path: str, names: tuple[str, ...]) -> None:
    module = importlib.import_module(path)
    for name in names:
        assert hasattr(module, name), f"{path}.{name}"


def _capitals_first(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_every_public_definition_has_a_docstring_and_every_module_says_what_it_is() -> None:
    for path, tree in sources():
        assert ast.get_docstring(tree), path
        for node in public_definitions(tree):
            assert ast.get_docstring(node), f"{path}: {node.name}"


def public_definitions(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """Classes and functions at the top of a module, and the methods of those classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if "overload" in {ast.unparse(d) for d in node.decorator_list}:
                continue  # its docstring stands with the implementation
            yield node
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    yield part


def test_initialisers_only_re_export() -> None:
    for path, tree in sources():
        if path.endswith("__init__.py"):
            allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
            others = [node for node in tree.body if not isinstance(node, allowed)]
            if path == "pins/__init__.py":  # which imports a name when it is first used
                checked, *functions = others
                assert ast.unparse(checked).startswith("if TYPE_CHECKING:")
                others = [f for f in functions if getattr(f, "name", "") not in LAZY]
            assert not others, path


LAZY = ("__getattr__", "__dir__")


def test_type_checkers_see_the_names_that_are_imported_when_first_used() -> None:
    (block,) = (
        node for node in dict(sources())["pins/__init__.py"].body if isinstance(node, ast.If)
    )
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen.pop("masks") == "pins"
    for name, module in seen.items():
        assert getattr(pins, name) is getattr(importlib.import_module(str(module)), name)
    assert {*pins.__all__} == {*seen, "PinsError", "errors", "masks"}
    assert {*pins.__all__} <= {*dir(pins)}
    with pytest.raises(AttributeError, match="module 'pins' has no attribute 'Prunner'"):
        _ = pins.Prunner


@pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")  # without a GPU
@pytest.mark.parametrize(
    ("name", "example"),
    EXAMPLES,
    ids=["theorem", "trainer", "loop", "pattern", "proof", "constraints", "tree", "budget"],
)
def test_the_examples_print_what_their_page_says(
    name: str, example: CodeBlock, tmp_path: Path
) -> None:
    assert example.output
    if "transformers" in example.code:
        pytest.importorskip("transformers", reason="the example prunes a transformers model")
    ((_, printed),) = run_blocks([example], name, tmp_path)
    assert example.matches(printed), printed


def parsed(line: str) -> bool:
    """Whether a line runs `pins`; if so, its command, options and their values are parsed.

    Raises:
        KeyError: there is no such command.
        Exception: of the parser: no such option, or not such a value.
    """
    words = shlex.split(line, comments=True)
    if "pins" not in words:
        return False
    name, *arguments = words[words.index("pins") + 1 :]
    group = typer.main.get_command(command_line())
    group.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]
    return True


def test_the_commands_of_the_documents_are_understood() -> None:
    lines = [
        line for _, block in BLOCKS if block.language == "sh" for line in block.code.splitlines()
    ]
    assert sum(parsed(line) for line in lines) >= 10


@pytest.mark.parametrize(
    "line", ["pins prunes --out a", "python -m pins prune --sparse 0.8", "pins prune --sparsity x"]
)
def test_a_command_that_is_not_understood_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"prunes|No such option|valid number"):
        parsed(line)


def test_the_readme_commands_do_what_it_says(tmp_path: Path) -> None:
    scores = {"w": torch.tensor([0.5, 2.0, 0.25, 1.0])}
    save_scores(scores, tmp_path / "scores.safetensors")
    save_scores({"w": torch.tensor([1.0, 1.0, 4.0, 0.5])}, tmp_path / "costs.safetensors")
    masks_module.save({"w": torch.tensor([True, True, True, False])}, tmp_path / "mask.safetensors")
    (block,) = (each.code for each in code_blocks(README) if each.code.startswith("pins certify"))
    run = 0
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if words == ["pins", "verify"]:
            continue  # a minute; the claims have tests of their own
        if words[0] == "pins":
            command = [sys.executable, "-m", "pins", *words[1:]]
        else:
            command = [sys.executable, "-I", "-S", str(ROOT / words[1]), *words[2:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        run += 1
    assert run == 5
    assert (tmp_path / "own.json").is_file()


def test_the_readme_names_the_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make (\w+)", README, flags=re.M))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make check" in ci
    assert "make test" in ci


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("document", readme.PARTS)
def test_the_generated_parts_of_a_document_are_up_to_date(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert readme.filled(document, text) == text, "run `python -m benchmarks.documents.readme`"


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")):
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_changelog_begins_with_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\n## {pins.__version__}\n" in changelog
    assert f'\nversion = "{pins.__version__}"\n' in pyproject


def test_every_dependency_has_a_reason_on_its_line() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    requirements = re.findall(r'^    "[a-z0-9-]+[>=~].*$', pyproject, flags=re.M)
    assert len(requirements) >= 15
    for line in requirements:
        assert "  # " in line, line


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"pins", "solvers", "verification"}
    for name in (
        "pins/py.typed",
        "solvers/py.typed",
        "verification/py.typed",
        "verification/CERTIFICATE.md",
        "verification/demo/report.html.j2",
        "verification/plots/captions.toml",
        *(f"verification/explorer/{file}" for file in (STYLE, TEMPLATE, *SCRIPTS)),
    ):
        assert name in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_an_installed_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    subprocess.run([*command, str(site), str(wheel)], check=True, capture_output=True)
    code = "import pins, solvers, verification.claims as c; print(pins.__file__, len(c.ALL_CLAIMS))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(site))


def test_the_standalone_checker_is_the_installed_one() -> None:
    assert Path(verification.checker.__file__) == ROOT / "verification" / "checker.py"
