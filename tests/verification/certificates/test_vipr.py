"""Certificates as VIPR files, judged by a reader of their own, and by viprchk if there is one.

viprchk compares a solution with one constraint alone; so it is not asked about the forgery that
only breaks others.
"""

import itertools
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pins import masks as masks_module
from pins.errors import CertificateError
from pins.selection.blocks import Blocks
from pins.selection.constraints import (
    AtMostNofM,
    Cardinality,
    Frozen,
    LayerBounds,
    NofM,
    PerTensor,
    Rows,
)
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node, Runs, TensorNode, View
from tests.commands import Command
from tests.tree_oracle import Program, enumerate_tree
from tests.vipr_reader import RefusedError, Verified, verify
from verification import checker
from verification.certificates import vipr
from verification.certificates.from_files import certify_files
from verification.certificates.selection import certify, save_scores
from verification.certificates.trust_region import TrustRegion
from verification.certificates.vipr import Export, export
from verification.strategies.trees import Tree, trees

VIPRCHK = shutil.which("viprchk")
# all above 0, so that each threshold is
SCORES = {"a": torch.rand(2, 4, generator=torch.Generator().manual_seed(3)) + 0.125}
SCORES["b"] = SCORES["a"].flip(0, 1) + 0.25
COSTS = {name: scores.flip(1) for name, scores in SCORES.items()}
FREE = {name: torch.zeros(2, 4, dtype=torch.bool) for name in SCORES}
FROZEN = {name: mask.clone() for name, mask in FREE.items()}
FROZEN["a"][0] = True
HALF = Node(
    "model",
    (
        Node("first", (TensorNode("a", View(1, 2, 4), runs=(Runs(4, 1, 3),)),), 2, 3),
        TensorNode("b", View(1, 2, 4), 1, runs=(Runs(4, 0, 3), Runs(2, 1, 2))),
    ),
    7,
    7,
)
OWN = {name: torch.tensor([[True, False, True, False]] * 2) for name in SCORES}
PAIRS = {name: torch.tensor([[True, True, False, False]] * 2) for name in SCORES}
SQUARES = {name: torch.eye(2).bool().repeat(1, 2) for name in SCORES}
KINDS: dict[str, dict[str, Any]] = {
    "cardinality": {"keep": 7},
    "per tensor": {"keep": PerTensor({"a": 2, "b": 6})},
    "bounds": {"keep": Cardinality(8) & LayerBounds({"a": 4}, {"b": 3, "a": 6})},
    "rows": {"keep": Rows(0.25)},
    "two of four": {"keep": NofM(2, 4)},
    "at most": {"keep": Cardinality(6) & AtMostNofM(2, 4)},
    "nested": {"keep": HALF},
    "frozen": {"keep": Cardinality(9) & Frozen({}, FROZEN) & Frozen({"b": FROZEN["a"]}, {})},
    "regret": {"keep": 8, "own": OWN},
    "regret of rows": {"keep": NofM(1, 2), "own": OWN},
    "radius": {"keep": 7, "radius": 5.0},
    "radius of rows": {"keep": Rows(0.5), "multiplier": 0.75, "radius": 7.0},
    "own radius": {"keep": 7, "multiplier": 1.5},
    "blocks": {"keep": Blocks((2, 1), Cardinality(5) & LayerBounds({"a": 3}))},
    "regret of blocks": {"keep": Blocks((1, 2), NofM(1, 2)), "own": PAIRS},
    "radius of blocks": {"keep": Blocks((1, 2), Cardinality(3)), "multiplier": 0.5},
    "squares": {"keep": TransposableNofM(1, 2)},
    "gap of squares": {"keep": TransposableNofM(1, 2), "own": SQUARES},
}


def made(kind: str, folder: Path) -> Path:
    """A certificate of this kind, with its files."""
    asked = dict(KINDS[kind])
    save_scores(SCORES, folder / "scores.safetensors")
    if "radius" in kind:
        asked["cost"] = folder / "cost.safetensors"
        save_scores(COSTS, asked["cost"])
    if own := asked.pop("own", None):
        asked["mask"] = folder / "own.safetensors"
        masks_module.save(own, asked["mask"])
    certificate = folder / "certificate.json"
    certify_files(folder / "scores.safetensors", certificate, **asked)
    return certificate


def gap_of(certificate: Path) -> Fraction:
    said = json.loads(certificate.read_text())["claim"]["gap"]
    return Fraction(int(said["numerator"]), int(said["denominator"]))


def value(proved: Verified, role: str) -> Fraction:
    return sum((proved.objective.get(i, Fraction(0)) for i in proved.solutions[role]), Fraction(0))


def require_the_claim(proved: Verified, said: Export, certificate: Path) -> None:
    """The bound in the file is the one of the claim, and the range is the one announced."""
    gap = 2**said.exponent * gap_of(certificate)
    assert proved.upper is not None
    assert proved.upper - value(proved, "mask") == gap
    assert proved.lower == said.lower
    assert proved.upper == said.upper
    assert (proved.size, len(proved.constraints)) == (said.variables, said.constraints)
    if "best" in proved.solutions:
        assert value(proved, "best") == proved.upper


def believed(path: Path) -> bool:
    """The verdict of the reader."""
    try:
        verify(path)
    except RefusedError:
        return False
    return True


def viprchk(path: Path) -> bool:
    """The verdict of viprchk."""
    assert VIPRCHK is not None
    return not subprocess.run([VIPRCHK, path], capture_output=True, check=False).returncode


# ---- What is proved ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_claim_of_each_kind_is_proved(kind: str, tmp_path: Path) -> None:
    certificate, file = made(kind, tmp_path), tmp_path / "out" / "program.vipr"
    said = export(certificate, file)
    proved = verify(file)
    require_the_claim(proved, said, certificate)
    assert ("best" in proved.solutions) == ("regret" in kind)
    assert bool(gap_of(certificate)) == (proved.upper != proved.lower or "regret" in kind)
    assert VIPRCHK is None or viprchk(file)


@settings(max_examples=15)
@given(trees(allowed=True, max_total=7), st.sampled_from((None, 0.75, 2.0**-30, 1e9)), st.data())
def test_the_program_allows_the_masks_of_the_tree_and_the_bound_holds(
    tree: Tree, multiplier: float | None, data: st.DataObject
) -> None:
    scores = {node.name: tree[0][node.name] for node in tree[1].tensors}
    assume(all((each.double().abs() < 2.0**1000).all() for each in scores.values()))
    found = enumerate_tree(scores, tree[1])
    program, size = found.program, len(found.program.scores)
    mask = data.draw(st.sampled_from(sorted(found.values)))
    costs = {
        name: data.draw(st.permutations(each.abs().view(-1).tolist()))
        for name, each in scores.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder, region = Path(scratch), None
        certificate, file = folder / "certificate.json", folder / "program.vipr"
        save_scores(tree[0], folder / "scores")
        masks_module.save(program.masks(mask), folder / "mask")
        if multiplier is not None:
            cost = {n: torch.tensor(c).to(scores[n]).view_as(scores[n]) for n, c in costs.items()}
            save_scores(cost, folder / "cost")
            region = TrustRegion(cost, folder / "cost", multiplier)
        certify(
            tree[0],  # its order is not the one of the tree
            program.masks(mask),
            certificate=certificate,
            scores_file=folder / "scores",
            mask_file=folder / "mask",
            constraint=tree[1],
            region=region,
        )
        said = export(certificate, file)
        proved = verify(file)
        require_the_claim(proved, said, certificate)
        assert VIPRCHK is None or viprchk(file)
    price = [Fraction(0)] * size
    if region is not None:
        price = Program(region.cost, tree[1]).scores
    pruned = {
        point: sum(price[i] for i in range(size) if not program.keeps(point, i))
        for point in range(2**size)
    }
    for point, its in pruned.items():
        kept = {i: Fraction(1) for i in range(size) if program.keeps(point, i)}
        allowed = point in found.values and its <= pruned[mask]
        assert proved.allows(kept) == allowed
        if allowed:
            total = sum((proved.objective.get(i, Fraction(0)) for i in kept), Fraction(0))
            assert total == 2**said.exponent * found.values[point] <= said.upper
    assert region is not None or said.upper == 2**said.exponent * found.best
    assert [*proved.solutions["mask"]] == [i for i in range(size) if program.keeps(mask, i)]


def test_the_program_allows_the_masks_of_squares_and_the_bound_holds(tmp_path: Path) -> None:
    """Whose potentials are in units that are smaller than those of the scores, too."""
    scores = {"w": torch.tensor([[3.0, 2.0, -1.0], [2.5, 0.0, 1.0], [2.0, 1.0, 0.125]]).half()}
    save_scores(scores, tmp_path / "s.safetensors")
    certificate, file = tmp_path / "c.json", tmp_path / "c.vipr"
    certify_files(tmp_path / "s.safetensors", certificate, keep=TransposableNofM(2, 3))
    said, proved = export(certificate, file), verify(file)
    flat, values = [*map(Fraction, scores["w"].flatten().tolist())], []
    for bits in itertools.product((0, 1), repeat=9):
        square = torch.tensor(bits).view(3, 3)
        allowed = bool((square.sum(0) == 2).all() and (square.sum(1) == 2).all())
        assert proved.allows({i: Fraction(1) for i, bit in enumerate(bits) if bit}) == allowed
        if allowed:
            values.append(sum(itertools.compress(flat, bits)))
    assert said.lower == said.upper == 2**said.exponent * max(values)


# ---- Forgeries -----------------------------------------------------------------------------------


@dataclass
class Lines:
    """A VIPR file by its lines, so that they can be forged."""

    text: list[str]

    def find(self, start: str) -> int:
        return next(i for i, line in enumerate(self.text) if line.startswith(start))

    def change(self, line: int, word: int, by: int) -> None:
        words = self.text[line].split()
        words[word] = str(Fraction(words[word]) + by)
        self.text[line] = " ".join(words)

    def binding_row(self) -> int:
        """The line of the last row, apart from the variables' bounds, with a multiplier."""
        con = self.find("CON ")
        bounds = int(self.text[con].split()[2])
        words = self.text[self.find("bound ")].split()[7:-2:2]
        row = max(map(int, words))
        assert row >= bounds
        return con + 1 + row

    def solution(self, proved: Verified, gain: int) -> None:
        """Leave the best weight of the first solution out, or keep one more."""
        line = self.find("SOL ") + 1
        name, _, *words = self.text[line].split()
        kept, worth = {*map(int, words[::2])}, proved.objective
        if gain > 0:
            kept |= {max({*range(proved.size)} - kept, key=lambda i: worth[i])}
        else:
            kept -= {max(kept, key=lambda i: worth[i])}
        if gain < 0:  # another one for it: the number is right, and the value is not
            kept |= {min({*range(proved.size)} - kept, key=lambda i: worth[i])}
        self.text[line] = f"{name} {len(kept)} {' '.join(f'{i} 1' for i in sorted(kept))}"


def relax(lines: Lines, _: Verified) -> None:
    row = lines.binding_row()
    lines.change(row, 2, -1 if lines.text[row].split()[1] == "G" else 1)


FORGERIES: dict[str, Callable[[Lines, Verified], None]] = {
    "a smaller bound": lambda lines, _: lines.change(lines.find("RTP "), 3, -1),
    "a smaller derived bound": lambda lines, _: lines.change(lines.find("bound "), 2, -1),
    "a larger value": lambda lines, _: lines.change(lines.find("RTP "), 2, 1),
    "a coefficient": lambda lines, _: lines.change(lines.find("OBJ ") + 1, 2, 1),
    "a row's coefficient": lambda lines, _: lines.change(lines.binding_row(), 5, 1),
    "a row's side": relax,
    "a bound's multiplier": lambda lines, _: lines.change(lines.find("bound "), 8, 1),
    "a row's multiplier": lambda lines, _: lines.change(lines.find("bound "), -3, 1),
    "a worse solution": lambda lines, proved: lines.solution(proved, -1),
    "a solution that keeps fewer": lambda lines, proved: lines.solution(proved, 0),
    "a solution that keeps more": lambda lines, proved: lines.solution(proved, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_forgery_is_believed(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "program.vipr"
    export(made(kind, tmp_path), file)
    original, proved = file.read_text(), verify(file)
    for forgery, forge in FORGERIES.items():
        lines = Lines(original.splitlines())
        forge(lines, proved)
        file.write_text("\n".join(lines.text) + "\n")
        assert not believed(file), forgery
        if VIPRCHK is not None and forgery != "a solution that keeps more":
            assert not viprchk(file), forgery


EXAMPLE = """% the example of the specification, without its rounding
VER 1.0
VAR 2
x y
INT 2
0 1
OBJ min
2  0 1  1 1
CON 2 0
C1 G 1  2  0 4  1 1
C2 L 2  2  0 4  1 -1
RTP range -1/8 1
SOL 2
feas 2  0 1  1 2
opt 1  1 1
DER 2
C3 G -1/2  1  1 1   { lin 2  0 1/2  1 -1/2 } 3
C5 G -1/8   OBJ     { lin 2  0 1/4  2 3/4 } 0
"""


@pytest.mark.parametrize(
    ("part", "forged", "match"),
    [
        ("", "", None),
        ("RTP range -1/8", "RTP range -1/9", "the range is not derived"),
        ("-1/8 1", "-1/8 1/2", "no solution reaches"),
        ("opt 1  1 1", "opt 1  1 1/2", "no integer"),
        ("feas 2  0 1  1 2", "feas 2  0 3  1 2", "feas breaks C2"),
        ("1 -1/2 }", "1 1/2 }", "different directions"),
        ("lin 2  0 1/4  2 3/4", "lin 2  0 1/4  3 3/4", "there is no index 3"),
        ("{ lin 2  0 1/2  1 -1/2 }", "{ asm }", "'asm' in the place of lin"),
        ("} 0", "} 0 more", "there is more"),
        ("} 0", "}", "not in the format"),
    ],
)
def test_the_reader_reads_the_format(
    part: str, forged: str, match: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "example.vipr"
    file.write_text(EXAMPLE.replace(part, forged) if part else EXAMPLE)
    if match is None:
        assert verify(file).lower == Fraction(-1, 8)
    else:
        with pytest.raises(RefusedError, match=match):
            verify(file)


# ---- What is not exported ------------------------------------------------------------------------


def a_larger_gap(folder: Path) -> None:
    file = folder / "certificate.json"
    document = json.loads(file.read_text())
    document["claim"]["gap"]["numerator"] += "1"
    file.write_text(json.dumps(document))


def another_mask(folder: Path) -> None:
    masks_module.save(FREE, folder / "own.safetensors")


def half_a_certificate(folder: Path) -> None:
    (folder / "certificate.json").write_text("{")


FAULTS: dict[str, Callable[[Path], None]] = {
    "refuted: the gap is": a_larger_gap,
    "refuted: own.safetensors: sha256 is": another_mask,
    "unreadable: scores.safetensors: no such file": lambda folder: (
        folder / "scores.safetensors"
    ).unlink(),
    "unreadable: certificate.json: not JSON": half_a_certificate,
    "unreadable: certificate.json: no such file": lambda folder: (
        folder / "certificate.json"
    ).unlink(),
}


@pytest.mark.parametrize("message", FAULTS)
def test_nothing_is_exported_that_is_not_proved(message: str, tmp_path: Path) -> None:
    certificate, file = made("regret", tmp_path), tmp_path / "program.vipr"
    FAULTS[message](tmp_path)
    with pytest.raises(CertificateError, match=f"certificate.json is not exported: {message}"):
        export(certificate, file)
    assert not file.exists()


def test_a_claim_with_more_than_a_tree_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, file = made("cardinality", tmp_path), tmp_path / "program.vipr"
    kind = checker._KINDS["selection"]
    other = kind._replace(claim={**kind.claim, "bytes": checker._natural})
    monkeypatch.setitem(checker._KINDS, "other", other)
    document = json.loads(certificate.read_text()) | {"kind": "other"}
    document["claim"]["bytes"] = 9
    certificate.write_text(json.dumps(document))
    with pytest.raises(CertificateError, match="is not about one tree of bounds"):
        export(certificate, file)
    assert not file.exists()


def test_a_certificate_that_changes_meanwhile_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, file = made("cardinality", tmp_path), tmp_path / "program.vipr"
    block = vipr._Weights.block

    def change(self: Any, stored: Any, mu: Any) -> Any:
        certificate.write_text(certificate.read_text() + "\n")
        return block(self, stored, mu)

    monkeypatch.setattr(vipr._Weights, "block", change)
    with pytest.raises(CertificateError, match="changed while it was read: export it again"):
        export(certificate, file)
    assert not file.exists()


def test_large_certificates_are_exported_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, file = made("cardinality", tmp_path), tmp_path / "program.vipr"
    monkeypatch.setattr(vipr, "LARGEST", 15)
    with pytest.raises(CertificateError, match=r"16 weights.* up to 15 are .* with --force"):
        export(certificate, file)
    assert not file.exists()
    assert export(certificate, file, force=True).variables == 16
    with pytest.raises(CertificateError, match=r"program\.vipr exists: remove it"):
        export(certificate, file)


def test_the_command_says_what_is_proved_and_what_is_not(tmp_path: Path, pins: Command) -> None:
    certificate, file = made("two of four", tmp_path), tmp_path / "program.vipr"
    code, out, err = pins("export-vipr", certificate, "--out", file)
    assert (code, err) == (0, "")
    assert re.fullmatch(
        rf"{re.escape(str(file))}: 16 variables, 37 constraints; proves an optimum; does not say "
        r"how .*, whether the optimum is unique, and the tie rule\n",
        out,
    )
    comments = [line for line in file.read_text().splitlines() if line.startswith("%")]
    assert comments[-1] == f"% not said: {vipr.UNSAID}"
    digest = json.loads(certificate.read_text())["evidence"]["scores"]["sha256"]
    assert f"% scores: 'scores.safetensors', sha256 {digest}" in comments
    code, out, _ = pins("export-vipr", certificate, "--out", tmp_path / "again", "--json")
    proved = verify(tmp_path / "again")
    said = json.loads(out)
    assert (code, said["file"]) == (0, str(tmp_path / "again"))
    assert Fraction(said["lower"]) == Fraction(said["upper"]) == proved.upper
    assert (said["variables"], said["constraints"]) == (16, 37)
    assert all((2.0 ** said["exponent"] * s.double() % 1 == 0).all() for s in SCORES.values())
