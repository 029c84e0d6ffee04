"""The certificate of the final decision of `pins prune`: an entry point of `pins.certifier`."""

from pins.errors import NoFormatError
from pins.runs.export import FinalDecision
from pins.selection.tree import Node
from verification.certificates.from_files import certify_files
from verification.certificates.selection import summary


def certify_run(final: FinalDecision) -> str:
    """Write the certificate of the decision; the sentence that it proves.

    Raises:
        NoFormatError: the constraint is of blocks, or transposable.
    """
    if not isinstance(final.tree, Node):
        raise NoFormatError("the format of certificates has no transposable patterns")
    for role in ("", ".best", ".zeros", ".fixed"):  # of a run that was stopped here
        suffix = f"{role}.safetensors" if role else ".json"
        final.certificate.with_name(f"{final.certificate.stem}{suffix}").unlink(missing_ok=True)
    document = certify_files(
        final.scores,
        final.certificate,
        keep=final.tree,
        mask=final.masks,
        criterion=final.criterion,
        cost=final.cost,
        multiplier=final.multiplier,
    )
    return summary(document)
