"""The page as a file: one text of one sample, whole or not at all, whatever the names are."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from pins.errors import FileError, ImportanceError
from pins.importance.trust_region.program import Terms
from pins.runs.weight_sample import WeightSample
from tests.verification.explorer.opened import opened
from tests.verification.explorer.samples import ODD, sample_of, small_sample
from verification import explorer
from verification.explorer.data import data, learning_rates, multipliers
from verification.explorer.page import FOLDER, SCRIPTS, STYLE, TEMPLATE

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_the_same_sample_gives_the_same_page_and_another_another(sample: WeightSample) -> None:
    assert explorer.page(sample) == explorer.page(small_sample())
    assert explorer.page(sample) != explorer.page(replace(sample, sparsity=0.5))


def test_the_page_needs_nothing_but_itself(sample: WeightSample) -> None:
    page = explorer.page(sample)
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\(|fetch\(""", page)
    assert set(re.findall(r"https?://[^\"')\s]+", page)) == {"http://www.w3.org/2000/svg"}


def test_every_file_of_the_folder_is_in_the_page() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".js", ".css", ".j2")}
    assert files == {*SCRIPTS, STYLE, TEMPLATE}


def test_a_title_and_the_run_are_named(sample: WeightSample) -> None:
    assert "run, One &amp; two: 281" in explorer.page(replace(sample, description="One & two"))
    assert "<title>A pruning decision to explore</title>" in explorer.page(sample)
    assert "a real run, random weights: 281 of its weights" in explorer.page(sample)


def test_odd_names_are_names(browser: "Browser", tmp_path: Path) -> None:
    sample = replace(sample_of({ODD: (30,), "__proto__": (30,)}), description=ODD)
    with opened(browser, explorer.write(sample, tmp_path / "odd.html")) as page:
        assert page.page.evaluate("window.broken") is None
        assert page.text("#layer option:first-child") == f"{ODD} (30)"
        assert page.page.evaluate("pins.sample.description") == ODD
        page.choose("#layer", "1")
        assert page.text("#card-kept") == "6 of 30"


def test_json_ends_nothing(sample: WeightSample) -> None:
    page = explorer.page(replace(sample, description=ODD))
    inside = page.partition('<script type="application/json" id="sample">')[2]
    assert json.loads(inside.partition("</script>")[0])["description"] == ODD


def test_a_folder_in_the_way_is_one_line(sample: WeightSample, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileError, match=r"^\S+/out cannot be written: Is a directory$"):
        explorer.write(sample, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_page_that_cannot_be_made_leaves_the_earlier_one(
    sample: WeightSample, tmp_path: Path
) -> None:
    out = explorer.write(sample, tmp_path / "page.html")
    before = out.read_bytes()
    weights = {**sample.weights, "one": torch.tensor([float("nan")])}
    with pytest.raises(ImportanceError, match="θ of 'one' is not finite everywhere: take another"):
        explorer.write(replace(sample, weights=weights), out)
    assert out.read_bytes() == before


def test_a_sample_without_a_weight_is_refused() -> None:
    with pytest.raises(ImportanceError, match="holds no weight: there is nothing to explore"):
        explorer.page(sample_of({"empty": (0, 3)}))


def test_an_empty_tensor_is_no_layer() -> None:
    layers = data(sample_of({"empty": (0, 3), "full": (4,)}))["layers"]
    assert [layer["name"] for layer in layers] == ["full"]


def test_learning_rates_go_from_none_to_steps_as_long_as_the_weights() -> None:
    sample = sample_of({"w": (64, 64)})
    rates = learning_rates(sample)
    assert rates[0] == 0
    assert rates == sorted(set(rates))
    assert sample.learning_rate in rates
    steps = torch.cat(list(sample.gradient.values())).double().norm() * rates[-1]
    size = torch.cat(list(sample.weights.values())).double().norm()
    assert size <= steps < 10 * size
    assert learning_rates(replace(sample, gradient={"w": torch.zeros(4096)}))[-1] == 1


def test_the_ends_of_the_multipliers_rank_as_cost_and_importance_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    s = torch.randn(200, generator=generator, dtype=torch.float64)
    terms = Terms(s, torch.rand(200, generator=generator, dtype=torch.float64) * 1e-6)
    low, high = multipliers(terms)
    order = [scores.argsort(descending=True, stable=True).tolist() for scores in terms]
    found = {
        exponent: terms.scores(2.0**exponent).argsort(descending=True, stable=True).tolist()
        for exponent in (low, low + 1, high - 1, high)
    }
    assert found[low] == order[1] != found[low + 1]
    assert found[high] == order[0] != found[high - 1]
