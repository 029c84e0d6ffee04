import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pins import masks as masks_module
from pins.selection.select import select
from pins.utils.io import sha256
from tests.commands import Command
from verification.certificates.selection import save_scores


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    file = tmp_path / "scores.safetensors"
    save_scores({"w": torch.tensor([[0.5, -1.0, 2.0], [0.25, 3.0, -0.5]])}, file)
    return file


def one_line(err: str) -> str:
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_certify_and_check_prove_the_optimal_mask(pins: Command, scores: Path) -> None:
    out = scores.with_name("cert.json")
    code, said, err = pins("certify", scores, "--keep", "3", "--out", out)
    assert (code, err) == (0, "")
    assert "keeps 3 of 6 weights and is the only optimum" in said
    assert torch.equal(
        masks_module.load(scores.with_name("cert.mask.safetensors"))["w"],
        torch.tensor([[True, False, True], [False, True, False]]),
    )
    code, said, err = pins("check", out)
    assert (code, err) == (0, "")
    assert said.startswith("proved: the mask keeps exactly 3 of 6 weights")


def test_a_worse_mask_gets_a_certificate_of_its_regret(pins: Command, scores: Path) -> None:
    mask, out = scores.with_name("m.safetensors"), scores.with_name("c.json")
    masks_module.save(select({"w": torch.tensor([[0.0, 1, 0], [1, 0, 1]])}, 3), mask)
    code, said, _ = pins("certify", scores, "--keep", "3", "--mask", mask, "--out", out)
    assert code == 0
    assert "falls short of the optimum by about 6.75" in said
    assert pins("check", out)[0] == 0


def test_a_wrong_mask_is_refuted_with_numbers(pins: Command, scores: Path) -> None:
    out = scores.with_name("c.json")
    pins("certify", scores, "--keep", "3", "--out", out)
    claim = json.loads(out.read_text())
    claim["claim"]["keep"] = 4
    out.write_text(json.dumps(claim))
    code, said, err = pins("check", out)
    assert (code, said) == (1, "")
    assert "kept 3 of 6, the claim says 4" in one_line(err)


def test_a_tampered_certificate_is_refuted(pins: Command, scores: Path) -> None:
    out = scores.with_name("c.json")
    pins("certify", scores, "--keep", "3", "--out", out)
    mask = scores.with_name("c.mask.safetensors")
    masks_module.save({"w": torch.tensor([[True, True, True], [False, False, False]])}, mask)
    code, _, err = pins("check", out)
    assert code == 1
    assert "c.mask.safetensors: sha256 is" in one_line(err)
    forged = json.loads(out.read_text())
    forged["evidence"]["mask"]["sha256"] = sha256(mask)
    out.write_text(json.dumps(forged))
    code, _, err = pins("check", out)
    assert code == 1
    assert "w[4] is pruned and w[1] kept, with 3.0 and -1.0: exchanged, they gain" in one_line(err)


@pytest.mark.parametrize("out", [".", "", "/"])
def test_a_certificate_that_is_a_folder_is_refused(pins: Command, scores: Path, out: str) -> None:
    code, _, err = pins("certify", scores, "--keep", "3", "--out", out)
    assert code == 2
    assert "is a folder: give a file for the certificate" in one_line(err)


def test_a_path_that_the_system_refuses_gives_one_line(pins: Command, scores: Path) -> None:
    code, _, err = pins("certify", scores, "--keep", "3", "--out", scores.with_name("c" * 300))
    assert code == 2
    assert "File name too long" in one_line(err)


def test_certify_leaves_nothing_behind_when_it_fails(pins: Command, scores: Path) -> None:
    elsewhere = scores.parent / "sub" / "c.json"
    for _ in range(2):
        code, _, err = pins("certify", scores, "--keep", "3", "--out", elsewhere)
        assert code == 2
        assert "is not beside or below" in one_line(err)
    assert not elsewhere.parent.exists()


def test_names_that_its_checker_would_refuse_are_refused_first(pins: Command, scores: Path) -> None:
    odd = scores.rename(scores.with_name("a:b.safetensors"))
    code, _, err = pins("certify", odd, "--keep", "3", "--out", scores.with_name("c.json"))
    assert code == 2
    assert "has a colon or a backslash" in one_line(err)


def test_a_linked_file_is_certified_where_the_link_stands(pins: Command, scores: Path) -> None:
    folder = scores.parent / "links"
    folder.mkdir()
    (folder / "s.safetensors").symlink_to(scores)
    out = folder / "c.json"
    assert pins("certify", folder / "s.safetensors", "--keep", "3", "--out", out)[0] == 0
    assert pins("check", out)[0] == 0


def test_verify_writes_over_nothing_but_a_ledger(pins: Command, tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("precious")
    code, _, err = pins("verify", "--out", precious)
    assert code == 2
    assert "thesis.txt exists and is no pins-ledger" in one_line(err)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("command", ["verify", "demo"])
def test_a_negative_seed_is_refused_at_once(pins: Command, command: str) -> None:
    code, _, err = pins(command, "--seed", "-1")
    assert code == 2
    assert "--seed" in err


def test_truncated_files_are_unreadable(pins: Command, scores: Path) -> None:
    out = scores.with_name("c.json")
    pins("certify", scores, "--keep", "3", "--out", out)
    whole = scores.read_bytes()
    scores.write_bytes(whole[:-3])
    code, _, err = pins("check", out)
    assert code == 2
    assert "scores.safetensors" in one_line(err)
    code, _, err = pins("certify", scores, "--keep", "3", "--out", scores.with_name("d.json"))
    assert code == 2
    assert "is not a whole safetensors file" in one_line(err)
    out.write_text(out.read_text()[:100])
    assert pins("check", out)[0] == 2


def test_nan_scores_are_named_with_tensor_index_and_value(pins: Command, scores: Path) -> None:
    save_scores({"w": torch.tensor([[1.0, float("nan")]])}, scores)
    code, _, err = pins("certify", scores, "--keep", "1", "--out", scores.with_name("c.json"))
    assert code == 2
    assert "importance['w'] at index (0, 1) is nan" in one_line(err)


@pytest.mark.parametrize("keep", ["7", "-1"])
def test_a_count_no_mask_can_have_is_refused(pins: Command, scores: Path, keep: str) -> None:
    code, _, err = pins("certify", scores, "--keep", keep, "--out", scores.with_name("c.json"))
    assert code == 2
    assert f"keep is {keep}: it is the number of weights to keep, an int from 0 to 6" in one_line(
        err
    )


def test_missing_files_say_so(pins: Command, tmp_path: Path) -> None:
    code, _, err = pins("certify", tmp_path / "no", "--keep", "1", "--out", tmp_path / "c.json")
    assert code == 2
    assert "no is not a file" in one_line(err)
    code, _, err = pins("check", tmp_path / "no.json")
    assert code == 2
    assert "no.json" in one_line(err)


@pytest.mark.parametrize("command", [("verify",), ("demo", "--out")])
def test_a_missing_model_gives_one_line(
    pins: Command, tmp_path: Path, command: tuple[str, ...]
) -> None:
    where = (tmp_path / "report",) if command[0] == "demo" else ()
    code, _, err = pins(*command, *where, "--model", "no/such-model")
    assert code == 2
    assert "model 'no/such-model' is not a folder here" in one_line(err)


def test_unknown_names_list_the_known_ones(pins: Command, tmp_path: Path) -> None:
    code, _, err = pins("verify", "--profile", "slow")
    assert code == 2
    assert "choose one of quick, full" in one_line(err)
    code, _, err = pins("demo", "--out", tmp_path / "r", "--task", "imdb")
    assert code == 2
    assert "no task 'imdb': choose one of rte, mrpc" in one_line(err)


def test_a_missing_library_of_the_demo_is_named_with_what_installs_it(scores: Path) -> None:
    # None is how Python marks what is not there
    code = "import sys; sys.modules['jinja2'] = None; from pins.cli import main; main()"
    command = [sys.executable, "-c", code, "explore", str(scores.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    said = one_line(done.stderr)
    assert "jinja2 is not installed: run pip install '.[demo]' in a checkout" in said


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["verify", "--profile", "quik"], "choose one of quick, full; did you mean 'quick'?"),
        (["prune", "--task", "stdlib-doc"], "; did you mean 'stdlib-docs'?"),
        (["demo", "--criterion", "magnitud"], "; did you mean 'magnitude'?"),
        (["prune", "--criterion", "magnitud"], "; did you mean 'magnitude'?"),
        (["prune", "--schedule", "linaer"], "; did you mean 'linear'?"),
        (["plot", "polytop", "--out", "x.svg"], "; did you mean 'polytope'?"),
        (["prunes"], "; did you mean 'prune'?"),
    ],
)
def test_the_nearest_known_name_is_suggested(
    pins: Command, tmp_path: Path, arguments: list[str], near: str
) -> None:
    out = () if "--out" in arguments or arguments[0] != "prune" else ("--out", tmp_path / "out")
    code, said, err = pins(*arguments, *out)
    assert (code, said) == (2, "")
    assert near in one_line(err)


def test_a_verdict_and_a_certificate_are_one_json_object(pins: Command, scores: Path) -> None:
    out = scores.with_name("cert.json")
    code, said, err = pins("certify", scores, "--keep", "3", "--out", out, "--json")
    assert (code, err) == (0, "")
    assert json.loads(said) == {
        "certificate": str(out),
        "sentence": "keeps 3 of 6 weights and is the only optimum",
        "claim": json.loads(out.read_text())["claim"],
    }
    verdicts = [("proved", 0), ("refuted", 1), ("unreadable", 2)]
    for outcome, expected in verdicts:
        code, said, err = pins("check", out, "--json")
        assert (code, err) == (expected, "")
        verdict = json.loads(said)
        assert verdict == {
            "certificate": str(out),
            "outcome": outcome,
            "message": verdict["message"],
        }
        assert verdict["message"].startswith(f"{outcome}: ")
        text = out.read_text()
        out.write_text(text.replace('"keep": 3', '"keep": 4') if outcome == "proved" else text[:99])


def test_an_error_prints_no_json(pins: Command, tmp_path: Path) -> None:
    code, said, err = pins(
        "certify", tmp_path / "no", "--keep", "1", "--out", tmp_path / "c", "--json"
    )
    assert (code, said) == (2, "")
    assert "no is not a file" in one_line(err)


def test_a_full_demo_has_the_sizes_of_a_full_run(pins: Command, tmp_path: Path) -> None:
    for arguments, cooldown in (((), 40), (("--full",), 60)):
        command = ("demo", *arguments, "--out", tmp_path / "r", "--sparse-steps", "30")
        code, _, err = pins(*command)
        assert code == 2
        assert f"cool-down {cooldown} leave no step to prune in 30" in one_line(err)


def test_the_installed_command_runs() -> None:
    command = Path(sys.executable).with_name("pins")
    if not command.is_file():
        pytest.skip("the console script is not installed beside this interpreter")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pins 0.")
