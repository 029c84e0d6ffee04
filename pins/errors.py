"""The exceptions of PINS: one class for each kind of error.

PinsError
├── ImportanceError    scores that cannot be ranked: NaN, infinite, empty, not floating point
├── CardinalityError   a number of kept weights that is impossible for any mask
├── ScheduleError      a schedule that cannot fit its steps
├── ParameterError     parameters that cannot be pruned
├── CriterionError     a criterion that does not exist
├── ObservationError   a criterion lacks an input: a gradient, a curvature
├── MaskError          masks that do not fit their tensors
├── OptimalityError    a decision that is not the optimum of its program: a defect of PINS
├── ProgramError       an explicit program that is malformed, or that the solver does not accept
├── CertificateError   a certificate that cannot be made
├── ClaimError         a ledger that cannot be run with these arguments
├── FileError          a file that cannot be read or may not be written
├── ModelError         a model that is missing or is not the one asked for
├── TaskError          task data that is missing or malformed
├── CalibrationError   a text that cannot calibrate a model, or activations that are no numbers
├── DeviceError        a device or a precision that this machine does not have
├── SettingError       an invalid setting of a run
├── EntryPointError    a registered command or certifier that cannot be loaded
└── CheckpointError    a checkpoint that is torn, or belongs to another run

A message says what was called, what was given, and what to do.
"""

MOST = 400  # characters of the message of a library


class PinsError(Exception):
    """Base class of all errors that PINS raises on purpose."""


class ImportanceError(PinsError, ValueError):
    """Scores that cannot be ranked: NaN, infinite, empty, not floating point."""


class CardinalityError(PinsError, ValueError):
    """A number of kept weights that is impossible for any mask."""


class ScheduleError(PinsError, ValueError):
    """A schedule that cannot fit its steps."""


class ParameterError(PinsError, ValueError):
    """Parameters that cannot be pruned."""


class CriterionError(PinsError, ValueError):
    """A criterion that does not exist."""


class ObservationError(PinsError, RuntimeError):
    """A criterion lacks an input: a gradient, a curvature."""


class MaskError(PinsError, ValueError):
    """Masks that do not fit their tensors."""


class OptimalityError(PinsError, RuntimeError):
    """A decision that is not the optimum of its program: a defect of PINS."""


class ProgramError(PinsError, ValueError):
    """An explicit program that is malformed, or that the solver does not accept."""


class CertificateError(PinsError, ValueError):
    """A certificate that cannot be made."""


class ClaimError(PinsError, ValueError):
    """A ledger that cannot be run with these arguments."""


class FileError(PinsError, OSError):
    """A file that cannot be read or may not be written."""


class ModelError(PinsError, RuntimeError):
    """A model that is missing or is not the one asked for."""


class TaskError(PinsError, ValueError):
    """Task data that is missing or malformed."""


class CalibrationError(PinsError, ValueError):
    """A text that cannot calibrate a model, or activations that are no numbers."""


class DeviceError(PinsError, ValueError):
    """A device or a precision that this machine does not have."""


class SettingError(PinsError, ValueError):
    """An invalid setting of a run."""


class EntryPointError(PinsError, RuntimeError):
    """A registered command or certifier that cannot be loaded."""


class CheckpointError(PinsError, RuntimeError):
    """A checkpoint that is torn, or belongs to another run."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class if the message is empty.

    Characters that are not printed are escaped: messages of libraries repeat what stands in files.
    """
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line[:MOST])
