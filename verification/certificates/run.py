"""The certificate of a decision of `pins prune` or `pins oneshot`: an entry point for each."""

from pins.pruning.final_decision import FinalDecision
from pins.utils.io import load_tensors
from verification.certificates.formula import READS, ComputedFormula, Formula, same_bits
from verification.certificates.from_files import certify_files
from verification.certificates.selection import summary


def certify_run(final: FinalDecision) -> str:
    """Write the certificate of the decision; the sentence that it proves."""
    for role in ("", ".best", ".zeros", ".fixed", ".potentials"):  # of a run that was stopped here
        suffix = f"{role}.safetensors" if role else ".json"
        final.certificate.with_name(f"{final.certificate.stem}{suffix}").unlink(missing_ok=True)
    formula = _formula(final)
    document = certify_files(
        final.scores,
        final.certificate,
        keep=final.tree,
        mask=final.masks,
        criterion=None if formula else final.criterion,
        formula=formula,
        cost=final.cost,
        multiplier=final.multiplier,
    )
    return summary(document)


def _formula(final: FinalDecision) -> ComputedFormula | None:
    """The formula of the scores and its files; None if they were not kept, or give other bits.

    Devices that flush denormals (MPS) round otherwise; then the scores are certified as they are.
    """
    if final.inputs is None:
        return None
    inputs = {what: final.inputs / f"{what}.safetensors" for what in READS[final.criterion]}
    offset = None
    if "curvature" in inputs:
        found = load_tensors(inputs["curvature"])[1].get("offset")
        offset = None if found is None else float.fromhex(found)
    made = Formula(final.criterion, inputs, offset).computed()
    files = {final.scores: made.scores} | ({final.cost: made.costs} if final.cost else {})
    same = all(same_bits(load_tensors(file)[0], found or {}) for file, found in files.items())
    return made if same else None
