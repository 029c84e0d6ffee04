"""Links of documents that are read in two places: as Markdown in the repository, and as a page.

In the repository a link is relative to the file, wherever it leads. Of what it leads to, some is a
page of the site; other files can be downloaded from it; a folder is only named.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent.resolve()
ROOT = DOCS.parent
LINK = re.compile(r"(!?)\[([^\]\n]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^(`{3,}).*?^\1 *$", flags=re.M | re.S)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|#")

PAGES = {
    "README.md": "project/readme.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "verification/CERTIFICATE.md": "reference/certificate-format.md",
}
"""Files of the repository that a page of the site includes, by path from the repository's root."""


def for_the_site(text: str, folder: Path, pages: Mapping[str, str] = PAGES) -> str:
    """The Markdown with its relative links as the site has them: from the root of docs.

    Args:
        text: a document, or a part of one.
        folder: where the document lies that the links are relative to.
        pages: as `PAGES`.
    """
    made, end = [], 0
    for fenced in FENCED.finditer(text):
        made += [_linked(text[end : fenced.start()], folder, pages), fenced[0]]
        end = fenced.end()
    return "".join([*made, _linked(text[end:], folder, pages)])


def _linked(text: str, folder: Path, pages: Mapping[str, str]) -> str:
    def link(found: re.Match[str]) -> str:
        image, words, target = found.groups()
        if SCHEME.match(target):
            return found[0]
        path, mark, anchor = target.partition("#")
        file = (folder / path).resolve()
        if not file.is_relative_to(ROOT) or not file.exists():
            return found[0]  # for Sphinx to complain of
        if file.is_dir():
            return words
        page = pages.get(file.relative_to(ROOT).as_posix())
        if page is not None:
            return f"[{words}](/{page}{mark}{anchor})"
        if file.is_relative_to(DOCS):
            return f"{image}[{words}](/{file.relative_to(DOCS).as_posix()}{mark}{anchor})"
        outside = f"/../{file.relative_to(ROOT).as_posix()}"
        return f"![{words}]({outside})" if image else f"[{words}](<path:{outside}>)"

    return LINK.sub(link, text)


def read_source(app: "Sphinx", docname: str, source: list[str]) -> None:
    """Called by Sphinx with each page."""
    source[0] = for_the_site(source[0], Path(app.env.doc2path(docname)).parent)


def read_include(app: "Sphinx", relative: Path, _parent: str, source: list[str]) -> None:
    """Called by Sphinx with each file that a page includes."""
    source[0] = for_the_site(source[0], (Path(app.srcdir) / relative).parent)


def setup(app: "Sphinx") -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", read_source)
    app.connect("include-read", read_include)
    return {"parallel_read_safe": True}
