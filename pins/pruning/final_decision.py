"""What a command that prunes hands to its certifier: the files of its final decision."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node


@dataclass(frozen=True)
class FinalDecision:
    """The inputs of the certificate of the final decision.

    Attributes:
        scores: file of the importance s.
        cost: file of the costs c if a trust region ranked by c + μs; else None.
        multiplier: μ > 0 if a trust region ranked by c + μs; else None.
        masks: file of the masks.
        certificate: the file to write.
        tree: the set of feasible masks.
        criterion: name of the criterion, and why its scores are no formula of one step.
        inputs: folder of the files from which the scores are computed; None: not kept.
    """

    scores: Path
    cost: Path | None
    multiplier: float | None
    masks: Path
    certificate: Path
    tree: Node | TransposableNofM
    criterion: str
    inputs: Path | None = None


Certify = Callable[[FinalDecision], str]  # returns the sentence that was proved
