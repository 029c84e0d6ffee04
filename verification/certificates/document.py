"""The certificate document: the parts that all kinds share.

`CERTIFICATE.md` specifies the format.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pins
from pins import masks as masks_module
from pins.distributed.process_group import SINGLE_PROCESS
from pins.errors import CertificateError, PinsError
from pins.masks import count, count_each, require_same_tensors
from pins.selection.allocation import Allocation
from pins.selection.blocks import Blocks, block_masks, elements
from pins.selection.constraints import (
    Cardinality,
    Constraint,
    LayerBounds,
    PerRow,
    PerTensor,
    cardinality,
)
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node, TensorNode, View
from pins.utils.io import load_tensors, removed_on_failure, save_tensors, sha256, write_json

FORMAT = "pins-certificate"
VERSION = 4
DEPTH = 16  # nodes within nodes, apart from the root
DTYPES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


def write_document(
    kind: str,
    claim: Mapping[str, Any],
    evidence: Mapping[str, Any],
    provenance: Mapping[str, Any] | None,
    certificate: Path,
) -> dict[str, Any]:
    """Write the certificate, and return it."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "claim": claim,
        "evidence": evidence,
        "provenance": {"made_by": f"pins {pins.__version__}", **(provenance or {})},
    }
    write_json(document, certificate)
    return document


def stated_scope(importance: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """The tensors in flat order with shape and dtype."""
    return [
        {"name": name, "shape": list(scores.shape), "dtype": DTYPES[scores.dtype]}
        for name, scores in importance.items()
    ]


def stated_block(tree: Node) -> tuple[int, int]:
    """The shape of the elements.

    Raises:
        CertificateError: they have several.
    """
    shape, *others = {node.view.block for node in tree.tensors}
    if others:
        raise CertificateError(
            "tensors have blocks of different shapes, and a certificate has one: certify them by "
            "themselves"
        )
    return shape


def stated_counts(
    masks: Mapping[str, Tensor], importance: Mapping[str, Tensor], block: tuple[int, int]
) -> list[int]:
    """The number of kept elements of each tensor, in flat order."""
    kept = count_each({name: masks[name] for name in importance})
    return [each.kept // prod(block) for each in kept.values()]


def stated_tree(tree: Node, depth: int = 0) -> list[dict[str, Any]]:
    """The parts of a node at this depth: nodes with parts of their own, and tensors with runs.

    Raises:
        CertificateError: it is too deep for the format.
    """
    if depth > DEPTH:
        raise CertificateError(
            f"{tree.name!r} is inside {depth} nodes, the format has {DEPTH}: leave nodes out"
        )
    return [_stated_part(child, depth) for child in tree.children]


def _stated_part(node: Node | TensorNode, depth: int) -> dict[str, Any]:
    bounds = {"minimum": max(node.minimum, 0), "maximum": node.upper}  # the format has naturals
    if isinstance(node, Node):
        return {"name": node.name, **bounds, "parts": stated_tree(node, depth + 1)}
    runs = [
        {"length": each.length, "minimum": max(each.minimum, 0), "maximum": each.upper}
        for each in node.runs
    ]
    about = {"transposed": node.view.transposed, "runs": runs, "squares": None}
    return {"tensor": node.name, **bounds, **about}


def state_squares(
    parts: Sequence[dict[str, Any]], importance: Mapping[str, Tensor], pattern: TransposableNofM
) -> None:
    """Put squares in the place of the runs that `pattern.rows` has for them."""
    for leaf in parts:
        if pattern.divides(importance[leaf["tensor"]].shape):
            leaf |= {"runs": [], "squares": {"side": pattern.m, "keep": pattern.n}}


def stated_frozen(
    tree: Node, like: Mapping[str, Tensor], certificate: Path, written: ExitStack
) -> dict[str, Any]:
    """The files of the weights that are frozen, which are written; None without any.

    Args:
        tree: of all weights.
        like: tensors whose names and shapes the files have.
        certificate: beside which they are written.
        written: removes them if it is left by an error.
    """
    found: dict[str, Any] = {}
    for role in ("zeros", "fixed"):
        which = {node.name: getattr(node, role) for node in tree.tensors}
        found[role] = None
        if any(each is not None for each in which.values()):
            file = beside(certificate, role)
            masks = {n: torch.zeros(s.shape, dtype=torch.bool) for n, s in like.items()}
            for name, own in which.items():
                if own is not None:  # perhaps flat
                    masks[name] = own.reshape(like[name].shape)
            write_masks(masks, file, written)
            found[role] = stated_file(file, certificate)
    return found


def stated_fraction(number: Fraction) -> dict[str, str]:
    """Numerator and denominator in decimal digits."""
    return {"numerator": str(number.numerator), "denominator": str(number.denominator)}


def stated_file(file: Path, certificate: Path) -> dict[str, str]:
    """The name relative to the certificate's folder, and the digest."""
    return {"file": name_beside(file, certificate), "sha256": sha256(file)}


def name_beside(file: Path, certificate: Path) -> str:
    """The name of a file relative to the certificate's folder.

    Raises:
        CertificateError: the file is elsewhere, or its name depends on the operating system.
    """
    try:
        # a link belongs to its own folder, so only the folders are resolved
        inside = (file.parent.resolve() / file.name).relative_to(certificate.parent.resolve())
    except ValueError:
        raise CertificateError(
            f"{file} is not beside or below {certificate}: a certificate names its files relative "
            "to its own folder; write it there"
        ) from None
    name = inside.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CertificateError(f"{name} is not UTF-8, as a certificate is: rename it") from None
    if ":" in name or "\\" in name:
        raise CertificateError(
            f"{name} has a colon or a backslash, which mean different things on different "
            "systems: rename it"
        )
    return name


def beside(certificate: Path, role: str) -> Path:
    """The file that a certificate gets for a mask of its own."""
    return certificate.with_name(f"{certificate.stem}.{role}.safetensors")


def require_new(certificate: Path, *files: Path) -> None:
    """Require that the certificate can be written, and that its files are in its folder.

    Raises:
        CertificateError: it exists, or is a folder; or a file is elsewhere.
    """
    if certificate.is_dir() or not certificate.name:
        raise CertificateError(f"{str(certificate)!r} is a folder: give a file for the certificate")
    require_absent(certificate)
    for file in files:
        name_beside(file, certificate)


def write_masks(masks: Mapping[str, Tensor], file: Path, written: ExitStack) -> None:
    """Write masks of a certificate; they are removed if the stack is left by an error.

    A process that was killed before its certificate leaves its masks; the same masks may stay.

    Raises:
        CertificateError: something else is at `file`.
    """
    _write(masks, file, written, masks_module.load, masks_module.save)


def write_potentials(potentials: Mapping[str, Tensor], file: Path, written: ExitStack) -> None:
    """Write potentials of squares, as `write_masks`."""
    header = {"format": "pins-potentials", "version": "1"}
    _write(
        potentials,
        file,
        written,
        lambda path: load_tensors(path)[0],
        lambda tensors, path: save_tensors(tensors, path, header),
    )


def _write(
    tensors: Mapping[str, Tensor],
    file: Path,
    written: ExitStack,
    load: Callable[[Path], Mapping[str, Tensor]],
    save: Callable[[Mapping[str, Tensor], Path], None],
) -> None:
    try:
        found = load(file)
    except PinsError:
        found = {}
    if [*found] == [*tensors] and all(torch.equal(found[n], t.cpu()) for n, t in tensors.items()):
        return
    require_absent(file)
    written.enter_context(removed_on_failure(file))
    save(tensors, file)


def require_absent(file: Path) -> None:
    """Require that nothing is at `file`.

    Raises:
        CertificateError: something is.
    """
    if file.exists():
        raise CertificateError(f"{file} exists: remove it, or write to another file")


def load_masks(
    mask: Path, importance: Mapping[str, Tensor], keep: object, allocation: Allocation
) -> dict[str, Tensor]:
    """Read masks of these tensors; of a number `keep`, with so many elements of the allocation.

    Raises:
        CertificateError: the masks keep another number.
        FileError, MaskError: the mask file is damaged, or has other tensors.
    """
    masks = masks_module.load(mask)
    require_same_tensors(importance, masks)
    kept = count(masks)
    if isinstance(keep, int) and kept.kept != keep * prod(allocation.block_shape):
        of_blocks = f" blocks of {allocation.block}" if allocation.block else ""
        raise CertificateError(
            f"{mask} keeps {kept.kept} of {kept.total}, --keep says {keep}{of_blocks}: no "
            "certificate can be made of a mask with another number of ones"
        )
    return masks


def allowed_masks(
    keep: int | Constraint | Node | TransposableNofM | None,
    allocation: Allocation,
    views: Mapping[str, View],
    masks: Mapping[str, Tensor] | None,
) -> Node | TransposableNofM:
    """The tree for a number of elements and an allocation, or of a constraint that has one.

    By tensor or row, given masks compete with the masks that have their number of ones in each.

    Raises:
        CardinalityError: no mask of these tensors keeps this number, or blocks do not divide them.
        MaskError: the mask keeps a part of a block.
        CertificateError: nothing says how many ones a mask has.
    """
    if isinstance(keep, Node | TransposableNofM):
        return keep
    if isinstance(keep, Constraint):
        return keep.tree(views)
    blocked = Blocks(allocation.block_shape, LayerBounds()).tree(views)
    total = blocked.size
    if keep is not None:
        keep = cardinality(keep, total)
        if total == 0:
            return Cardinality(keep).tree(views)
    share = None
    if masks is not None and allocation.scope != "global":
        own = {node.name: node.view for node in elements(blocked).tensors}
        share = _shares(allocation.scope, own, block_masks(masks, blocked, SINGLE_PROCESS))
    sparsity = allocation.sparsity if keep is None else 1 - Fraction(keep, total)
    if sparsity is None and share is None:
        raise CertificateError(
            "nothing says how many weights are kept: give --keep, or a pattern without it, or a "
            "mask with --scope tensor or row"
        )
    sparsity = sparsity or Fraction(0)  # a share replaces it
    allocation.require_final(sparsity)
    constraint = allocation.constraint(sparsity, views, share)
    return constraint if isinstance(constraint, TransposableNofM) else constraint.tree(views)


def _shares(
    scope: str, views: Mapping[str, View], masks: Mapping[str, Tensor]
) -> PerTensor | PerRow:
    """The number of ones that masks have in each tensor, or in each row.

    Raises:
        CertificateError: rows of a tensor have different numbers.
    """
    if scope == "tensor":
        return PerTensor({name: each.kept for name, each in count_each(masks).items()})
    keeps = {}
    for name, view in views.items():
        rows = view.apply(masks[name]).view(-1, max(view.inputs, 1)).sum(1)
        low, high = (int(each) for each in rows.aminmax()) if rows.numel() else (0, 0)
        if low < high:
            raise CertificateError(
                f"rows of {name!r} keep {low} to {high} weights: by row each keeps as many, choose "
                "another scope"
            )
        keeps[name] = low
    return PerRow(keeps)
