"""Proofs are made only where the processor compares all floats."""

from pins.errors import CertificateError
from pins.selection.scan.float_keys import denormals_compare_everywhere


def require_denormals() -> None:
    """Require that this process tells the least positive float from 0, in each of its threads.

    Raises:
        CertificateError: it does not; scores below 2.3e-308 would all be equal, and sums of them 0.
    """
    if not denormals_compare_everywhere():
        raise CertificateError(
            "the claim could not be decided: this process takes the floats below 2.3e-308 for 0 "
            "(torch.set_flush_denormal(True), or a library that was built with -ffast-math); "
            "certify in another process"
        )
