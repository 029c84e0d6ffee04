"""Certificates of kind "budget": a choice of an option for each layer, optimal or within a gap.

`CERTIFICATE.md` specifies the format; `checker.py` checks it and shares no code with this module.
The evidence is a multiplier and the length that a search may have.
"""

from pathlib import Path
from typing import Any

from pins.selection.budget.choice import Choice
from pins.selection.budget.core import LIMIT
from verification.certificates.document import require_new, stated_fraction, write_document

KIND = "budget"


def certify_choice(
    choice: Choice, certificate: Path, *, criterion: str | None = None, limit: int = LIMIT
) -> dict[str, Any]:
    """Write the certificate that no choice within the budget is better by more than the gap.

    Args:
        choice: made by `best_choice` or `judged`.
        certificate: the file to write.
        criterion: what the numbers are; stated without proof.
        limit: the one that the choice was made with.

    Returns:
        The certificate, as written.

    Raises:
        CertificateError: it exists.
    """
    require_new(certificate)
    program = choice.program
    layers = zip(program.names, program.levels, program.errors, program.costs, strict=True)
    claim = {
        "layers": [
            {
                "name": name,
                "levels": [*map(str, levels)],
                "errors": [*map(str, errors)],
                "costs": [*map(str, costs)],
            }
            for name, levels, errors, costs in layers
        ],
        "units": {
            "error": stated_fraction(program.error_unit),
            "cost": stated_fraction(program.cost_unit),
        },
        "budget": str(program.budget),
        "choice": [*choice.options],
        "error": str(program.error(choice.options)),
        "cost": str(program.cost(choice.options)),
        "gap": stated_fraction(choice.gap / program.error_unit),
        "criterion": criterion,
    }
    evidence = {"multiplier": stated_fraction(choice.multiplier), "states": limit}
    return write_document(KIND, claim, evidence, None, certificate)
