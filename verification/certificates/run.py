"""The certificate of the final decision of `pins prune`: an entry point of `pins.certifier`."""

from typing import Any

from pins.runs.export import FinalDecision
from verification.certificates.certificate import certify_files, summary
from verification.certificates.trust_region import certify_region_files


def certify_run(final: FinalDecision) -> str:
    """Write the certificate of the decision; the sentence that it proves."""
    final.certificate.unlink(missing_ok=True)  # of a run that was stopped here
    asked: dict[str, Any] = {
        "keep": final.constraint,
        "mask": final.masks,
        "criterion": final.criterion,
    }
    if final.cost is None:
        return summary(certify_files(final.scores, final.certificate, **asked))
    return summary(
        certify_region_files(
            final.scores, final.cost, final.certificate, multiplier=final.multiplier, **asked
        )
    )
