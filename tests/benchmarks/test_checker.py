import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checker import driver
from benchmarks.checker.certificates import CLAIMS, PLAIN
from benchmarks.checker.driver import (
    DIGEST,
    FAST,
    READ,
    SAYS,
    STANDALONE,
    make,
    measure,
    verdict,
)
from benchmarks.harness.results import read
from benchmarks.harness.score_sets import SCORE_SETS, SMOKE
from pins.errors import CertificateError, FileError, SettingError
from tests.benchmarks.started import rendered_again, start
from verification.certificates import fast_checker


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of the driver."""
    out, files = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(files))
        start("checker", "--scores", SMOKE, "--rounds", "2", out=out)
    assert not any(files.iterdir())
    return out


def document(**seconds: list[float]) -> dict[str, Any]:
    """Results on two cores: a read, a digest, the fast and the standalone checker."""
    names = {"read": READ, "digest": DIGEST, "fast": FAST, "standalone": STANDALONE}
    return {
        "size": 10**8,
        "tensors": 1,
        "dtype": "float32",
        "bytes": [4 * 10**8, 10**8 // 8],
        "settings": {"scores": "1e8", "kept": "1/5", "rounds": 2},
        "provenance": {"machine": {"cores": 2}},
        "rows": [
            {"method": name, "seconds": seconds.get(key), "error": None if key in seconds else "E"}
            for key, name in names.items()
        ],
    }


def test_a_run_leaves_the_times_of_both_checkers_a_digest_and_a_read(results: Path) -> None:
    found = read(results / "checker.json")
    methods = [row["method"] for row in found["rows"]]
    assert methods[: len(SAYS)] == list(SAYS)
    assert len(methods) == 3 * len(CLAIMS) + 1
    for row in found["rows"]:
        assert row["error"] is None
        assert len(row["seconds"]) == 2
        assert all(seconds > 0 for seconds in row["seconds"])
    smoke = SCORE_SETS[SMOKE]
    assert (found["size"], found["keep"]) == (smoke.size, smoke.keep)
    assert found["bytes"][0] > 4 * smoke.size
    assert found["provenance"]["command"].startswith("python -m benchmarks.checker --scores smoke")
    assert found["provenance"]["command"].endswith("--out OUT")


def test_the_table_is_made_from_the_results_file_alone(results: Path) -> None:
    text = rendered_again(driver, results / driver.FILE, "md")["md"]
    assert text.startswith("# Checking a certificate of 6,144 weights\n")
    assert all(f"| {name} | " in text for name in SAYS)
    assert all(f"| {claim}: " in text for claim in CLAIMS if claim != PLAIN)


def test_the_goal_is_judged_by_the_median_and_on_two_cores_alone() -> None:
    times = {"read": [0.1, 0.1], "digest": [0.2, 0.2], "standalone": [5.0, 5.0]}
    met = verdict(document(**times, fast=[0.4, 0.5]))
    assert "at least 200; **met**: 225 (200 to 250)." in met
    assert "is 11.2 (10 to 12.5) times as fast as" in met
    assert "It takes 2.25 (2 to 2.5) times as long as the digests alone" in met
    missed = verdict(document(**times, fast=[1.0, 1.0]))
    assert "**missed** by 50 %: 100." in missed
    other = document(**times, fast=[0.4, 0.5])
    other["provenance"]["machine"]["cores"] = 16
    assert "; not judged on 16 cores with float32." in verdict(other)
    failed = verdict(document(read=[0.1], digest=[0.2], standalone=[5.0]))
    assert failed.endswith("; not measured.")


def test_a_check_that_does_not_prove_is_a_failure_and_a_row(tmp_path: Path) -> None:
    made = make(SCORE_SETS[SMOKE], tmp_path)
    certificate, files = made[PLAIN]
    driver.require_proved(fast_checker.check(certificate))
    claimed = json.loads(certificate.read_text())
    claimed["claim"]["keep"] += 1
    certificate.write_text(json.dumps(claimed))
    with pytest.raises(CertificateError, match="is true, but the checker said refuted: kept 1228"):
        driver.require_proved(fast_checker.check(certificate))
    rows = {row["method"]: row for row in measure({PLAIN: (certificate, files)}, rounds=1)}
    assert rows[READ]["seconds"]
    assert rows[DIGEST]["seconds"]
    for name in (FAST, STANDALONE):
        assert rows[name]["seconds"] is None
        assert rows[name]["error"].startswith("CertificateError: the certificate is true, but")


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no score set 'bert-huge': choose one of bert-base"):
        driver.run(scores="bert-huge", out=tmp_path)
    with pytest.raises(FileError, match=r"holds no checker\.json: measure first"):
        driver.run(out=tmp_path, render_only=True)
