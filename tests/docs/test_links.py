"""Links that lead out of docs/, as the site has them."""

from pathlib import Path

import pytest

from docs.links import DOCS, PAGES, ROOT, for_the_site


@pytest.mark.parametrize(
    ("link", "folder", "made"),
    [
        ("[README](../README.md)", "docs", "[README](/project/readme.md)"),
        ("[of them](../README.md#layout)", "docs", "[of them](/project/readme.md#layout)"),
        ("[t](theory.md)", "docs", "[t](/theory.md)"),
        ("[t](docs/theory.md#x)", "", "[t](/theory.md#x)"),
        ("[`c`](checker.py)", "verification", "[`c`](<path:/../verification/checker.py>)"),
        (
            "[m](../benchmarks/results/solvers.md)",
            "docs",
            "[m](<path:/../benchmarks/results/solvers.md>)",
        ),
        ("![f](docs/theory.md)", "", "![f](/theory.md)"),
        ("![f](results/solvers.svg)", "benchmarks", "![f](/../benchmarks/results/solvers.svg)"),
        ("[results](../benchmarks/results)", "docs", "results"),
        ("[here](#anchor)", "docs", "[here](#anchor)"),
        ("[web](https://arxiv.org/abs/2305.12394)", "docs", None),
        ("[broken](none.md)", "docs", None),
        ("`masks[0](1)`", "docs", None),
    ],
)
def test_a_link_leads_to_the_page_the_file_or_nowhere(
    link: str, folder: str, made: str | None
) -> None:
    text = f"See {link}, and on."
    assert for_the_site(text, ROOT / folder) == f"See {made or link}, and on."


def test_code_is_left_as_it_is() -> None:
    text = "```python\nx[y](z.md)\n```\n[t](theory.md)\n````\n```\n[t](theory.md)\n```\n````\n"
    assert for_the_site(text, DOCS) == text.replace(
        "\n[t](theory.md)\n````", "\n[t](/theory.md)\n````"
    )


def test_every_included_file_is_there_and_its_page_includes_it() -> None:
    for file, page in PAGES.items():
        assert (ROOT / file).is_file()
        text = (DOCS / page).read_text(encoding="utf-8")
        up = "../" * (len(Path(page).parts))
        assert text == f"```{{include}} {up}{file}\n```\n"
