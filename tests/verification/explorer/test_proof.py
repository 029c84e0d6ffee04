"""What the page downloads is judged by the checker as the page says."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.verification.explorer.expected import Settings, expected, tree_under
from tests.verification.explorer.opened import Opened
from verification import checker
from verification.certificates.document import stated_tree

if TYPE_CHECKING:
    from playwright.sync_api import Download

    from pins.runs.weight_sample import WeightSample


def downloaded(page: Opened, button: str, folder: Path) -> list[Path]:
    """Press a button with the keyboard, and save the files that come, the certificate first."""
    came: list[Download] = []

    def take(download: "Download") -> None:
        came.append(download)

    page.page.on("download", take)
    page.press(button, "Enter")
    for _ in range(50):
        if came and came[-1].suggested_filename.endswith(".json"):
            break
        page.page.wait_for_timeout(50)
    page.page.remove_listener("download", take)
    files = [folder / each.suggested_filename for each in came]
    for each, path in zip(came, files, strict=True):
        each.save_as(path)
    return sorted(files, key=lambda file: (file.suffix, file.name))


def checked(certificate: Path) -> tuple[int, str]:
    """Exit code and line of the checker, with nothing but the standard library."""
    command = [sys.executable, "-I", "-S", str(Path(checker.__file__)), str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.mark.parametrize(
    ("layer", "choices", "exit_code"),
    [
        ("0", {}, 0),
        ("0", {"#criterion": "obd", "#precision": "float32"}, 0),
        ("1", {"#criterion": "magnitude", "#ties": "lower"}, 0),
        ("1", {"#criterion": "magnitude", "#ties": "higher"}, 0),
        ("1", {"#criterion": "magnitude", "#ties": "kept", "#precision": "bfloat16"}, 1),
        ("1", {"#criterion": "magnitude", "#ties": "pruned"}, 1),
        ("2", {}, 0),
        ("1", {"#criterion": "magnitude", "#bounds": "4:8"}, 0),
        ("1", {"#criterion": "magnitude", "#bounds": "halves-2:4", "#ties": "higher"}, 0),
    ],
)
def test_the_checker_says_what_the_page_says(
    open_page: Opened,
    sample: "WeightSample",
    tmp_path: Path,
    layer: str,
    choices: dict[str, str],
    exit_code: int,
) -> None:
    open_page.choose("#layer", layer)
    open_page.press("#rate", "Home")
    for control, option in choices.items():
        open_page.choose(control, option)
    files = downloaded(open_page, "#ask", tmp_path)
    assert [path.name for path in files] == [
        "certificate.json",
        "mask.safetensors",
        "scores.safetensors",
    ]
    assert files[0].read_text(encoding="utf-8") == open_page.text("#certificate")
    assert checked(files[0]) == (exit_code, open_page.text("#verdict"))
    claim = json.loads(files[0].read_text(encoding="utf-8"))["claim"]
    by_index = choices.get("#ties", "lower") == "lower"
    assert claim["tie_rule"] == ("lower-index" if by_index else "none")
    names = list(sample.weights)
    tree = tree_under(choices.get("#bounds", "none"), claim["total"], claim["keep"])
    [stated] = stated_tree(tree)
    assert claim["tree"] == [{**stated, "tensor": names[int(layer)]}]


def test_the_files_hold_scores_and_mask(
    open_page: Opened, sample: "WeightSample", tmp_path: Path
) -> None:
    open_page.press("#sparsity", "Home", "PageUp", "PageUp")
    _, mask, scores = downloaded(open_page, "#ask", tmp_path)
    answer = expected(sample, "dense", Settings(keep=192))
    assert torch.equal(load_file(scores)["dense"], answer.ranking)
    assert torch.equal(load_file(mask)["dense"], answer.kept)


def test_a_mask_that_was_moved_within_its_bounds_is_found(
    open_page: Opened, tmp_path: Path
) -> None:
    open_page.choose("#bounds", "2:4")
    certificate, mask, _ = downloaded(open_page, "#ask", tmp_path)
    document = json.loads(certificate.read_text(encoding="utf-8"))
    moved = {name: kept.clone() for name, kept in load_file(mask).items()}
    moved["dense"][:4] = ~moved["dense"][:4]
    save_file(moved, mask)
    document["evidence"]["mask"]["sha256"] = hashlib.sha256(mask.read_bytes()).hexdigest()
    certificate.write_text(json.dumps(document), encoding="utf-8")
    code, said = checked(certificate)
    assert code == 1
    assert "exchanged, they gain within run 0 of 4 in dense" in said


def test_a_score_that_was_changed_is_found(open_page: Opened, tmp_path: Path) -> None:
    certificate, _, scores = downloaded(open_page, "#ask", tmp_path)
    raw = bytearray(scores.read_bytes())
    raw[-1] ^= 1
    scores.write_bytes(raw)
    code, said = checked(certificate)
    assert code == 1
    assert said.startswith("refuted: scores.safetensors: sha256 is ")


def test_without_sha_256_the_page_says_so(open_page: Opened) -> None:
    open_page.page.evaluate("Object.defineProperty(crypto, 'subtle', { value: undefined })")
    open_page.press("#ask", "Enter")
    open_page.page.get_by_text("This browser computes no SHA-256").wait_for()
    assert open_page.page.locator("#downloads a").count() == 0
