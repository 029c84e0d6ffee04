"""The site is built without a warning, without a network, and every link of it leads somewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

import pins
import solvers
from docs.docstrings import imported
from docs.links import DOCS, ROOT

LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
STYLE_LOADS = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


class Page(HTMLParser):
    """What there is of links in a page.

    `anchors` can be linked to, `links` are followed by a reader, `loads` by the browser;
    `signatures` are the names that the reference explains.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = STYLE_LOADS.findall(text)
        self.signatures: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        name = attributes.get("id", "")
        self.anchors.add(name)
        if tag == "dt" and "sig-object" in attributes.get("class", ""):
            self.signatures.append(name)
        elif name.startswith("module-"):
            self.signatures.append(name.removeprefix("module-"))
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if attributes.get(LOADS.get(tag, "")):
            self.loads.append(attributes[LOADS[tag]])


@dataclass(frozen=True)
class Site:
    """Built pages by path."""

    folder: Path
    pages: Mapping[Path, Page] = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> "Site":
        files = folder.resolve().rglob("*.html")
        return cls(
            folder.resolve(), {file: Page(file.read_text(encoding="utf-8")) for file in files}
        )

    def targets(self, file: Path) -> Iterator[tuple[str, Path, str]]:
        """Each link and each load of a page within the site: as written, its file, its anchor."""
        page = self.pages[file]
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if not parts.scheme and not parts.netloc:
                path = (file.parent / unquote(parts.path)).resolve() if parts.path else file
                yield link, path, unquote(parts.fragment)

    def broken(self) -> list[str]:
        """Links to no file, or to no place in it."""
        found = []
        for file in self.pages:
            for link, path, anchor in self.targets(file):
                page = self.pages.get(path)
                known = page is None or not anchor or anchor in page.anchors
                if not path.is_file() or not known:
                    found.append(f"{file.relative_to(self.folder)}: {link}")
        return found

    def loaded_from_elsewhere(self) -> list[str]:
        """What the browser would ask a network for."""
        loads = [load for page in self.pages.values() for load in page.loads]
        for style in self.folder.rglob("*.css"):
            loads += STYLE_LOADS.findall(style.read_text(encoding="utf-8"))
        return [load for load in loads if urlsplit(load).netloc]

    def reached(self) -> set[Path]:
        """The files that lead from the first page."""
        found: set[Path] = set()
        open_ = [self.folder / "index.html"]
        while open_:
            file = open_.pop()
            if file not in found:
                found.add(file)
                open_ += [path for _, path, _ in self.targets(file)] if file in self.pages else []
        return found

    def explained(self) -> list[str]:
        return [name for page in self.pages.values() for name in page.signatures]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    out = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--builder", "html"]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Site.read(out)


def written(folder: Path, **pages: str) -> Site:
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return Site.read(folder)


def test_every_link_leads_somewhere(site: Site) -> None:
    assert len(site.pages) > 20
    assert site.broken() == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    right = '<a href="other.html#a">, <a href="https://x.org/none"> <a href="#"> <img src="p.svg">'
    wrong = '<a href="none.html"> <a href="other.html#none"> <a href="#b"> <img src="none.svg">'
    (tmp_path / "p.svg").touch()
    assert written(tmp_path, index=right, other='<p id="a">').broken() == []
    assert written(tmp_path, index=wrong).broken() == [
        "index.html: none.html",
        "index.html: other.html#none",
        "index.html: #b",
        "index.html: none.svg",
    ]


def test_no_page_loads_anything_from_a_network(site: Site) -> None:
    assert any(page.loads for page in site.pages.values())
    assert site.loaded_from_elsewhere() == []


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://cdn.org/x.js">',
        '<link rel="stylesheet" href="//cdn.org/x.css">',
        '<img src="http://x.org/x.png">',
        "<style>@import 'https://fonts.org/x.css'</style>",
        '<p style="background: url(https://x.org/x.png)">',
    ],
)
def test_what_is_loaded_from_a_network_is_found(tag: str, tmp_path: Path) -> None:
    assert written(tmp_path, index=tag).loaded_from_elsewhere()
    assert not written(tmp_path, index="<a href='https://x.org'>").loaded_from_elsewhere()
    (tmp_path / "x.css").write_text("a { background: url('//x.org/x.png') }")
    assert Site.read(tmp_path).loaded_from_elsewhere() == ["//x.org/x.png"]


def places(names: list[str], value: object) -> list[str]:
    """Under which of these names something is explained."""
    return [name for name in names if imported(name) is value]


@pytest.mark.parametrize("package", [pins, solvers], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference_once(site: Site, package: ModuleType) -> None:
    names = site.explained()
    for name in package.__all__:
        found = places(names, getattr(package, name))
        assert len(found) == 1, f"{package.__name__}.{name} is explained as {found}"


def test_a_name_that_is_explained_twice_or_never_is_found() -> None:
    names = ["pins.select", "pins.selection.select.select", "pins.masks"]
    assert places(names, pins.select) == names[:2]
    assert places(names, pins.masks) == names[2:]
    assert places(names, pins.decide) == []


def test_every_file_of_the_documentation_is_reached_from_its_first_page(site: Site) -> None:
    reached = site.reached()
    names = {file.name for file in reached}
    for file in DOCS.rglob("*"):
        if file.suffix == ".md":
            page = (site.folder / file.relative_to(DOCS)).with_suffix(".html")
            assert page in reached, file
        elif file.is_file() and file.suffix not in (".py", ".pyc"):
            assert file.name in names, file


def test_a_page_that_nothing_leads_to_is_found(tmp_path: Path) -> None:
    site = written(tmp_path, index='<a href="a.html">', a='<a href="index.html">', alone="")
    assert {file.name for file in site.reached()} == {"index.html", "a.html"}
