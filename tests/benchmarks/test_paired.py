import math
import statistics

import pytest

from benchmarks.harness.paired import Paired


def test_paired_windows_show_a_difference_that_their_spread_would_hide() -> None:
    hard = [1.0, 5.0, 2.0, 9.0, 4.0]
    noise = [0.01, -0.01, 0.0, 0.01, -0.01]
    better = [loss - 0.1 + each for loss, each in zip(hard, noise, strict=True)]
    found = Paired.of([better], [hard])
    assert found.mean == pytest.approx(-0.1)
    assert found.error == pytest.approx(statistics.stdev(noise) / math.sqrt(5))
    assert (found.verdict, str(found)) == ("lower", "−0.1 ± 0.0045")
    assert Paired.of([hard], [better]).verdict == "higher"
    assert Paired.of([sorted(better)[::-1]], [hard]).verdict == "no difference"  # other windows


def test_a_window_counts_once_however_many_draws_it_has() -> None:
    one, other = [[1.0, 2.0], [3.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]
    assert Paired.of(one, other) == Paired(2.0, 0.0)
    assert Paired.of(one[:1], other[:1]) == Paired(1.5, 0.5)
