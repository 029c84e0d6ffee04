"""What can go wrong, one class each.

PinsError
├── ImportanceError    scores that cannot be ranked: NaN, infinite, empty, not floating point
├── CardinalityError   a number of kept weights that no mask can have
├── ScheduleError      a schedule that cannot fit its steps
├── ParameterError     parameters that cannot be pruned
├── CriterionError     a criterion that does not exist
├── ObservationError   a criterion misses what it reads: a gradient, a curvature
├── MaskError          masks that do not fit their tensors
├── OptimalityError    a decision that is not the optimum of its program: a defect of PINS
├── ProgramError       an explicit program that is malformed, or not of the kind a solver takes
├── CertificateError   a certificate that cannot be made
├── ClaimError         a ledger that cannot be run as asked
├── FileError          a file that cannot be read or may not be written
├── ModelError         a model that is missing or is not the one asked for
├── TaskError          task data that is missing or malformed
├── DeviceError        a device or a precision that is not there
├── SettingError       a setting of a run that makes no sense
├── EntryPointError    a registered command or certifier that cannot be loaded
└── CheckpointError    a checkpoint that is torn, or of another run

A message says what was called, what came, and what to do.
"""


class PinsError(Exception):
    """Everything PINS raises on purpose."""


class ImportanceError(PinsError, ValueError):
    """Scores that cannot be ranked: NaN, infinite, empty, not floating point."""


class CardinalityError(PinsError, ValueError):
    """A number of kept weights that no mask can have."""


class ScheduleError(PinsError, ValueError):
    """A schedule that cannot fit its steps."""


class ParameterError(PinsError, ValueError):
    """Parameters that cannot be pruned."""


class CriterionError(PinsError, ValueError):
    """A criterion that does not exist."""


class ObservationError(PinsError, RuntimeError):
    """A criterion misses what it reads: a gradient, a curvature."""


class MaskError(PinsError, ValueError):
    """Masks that do not fit their tensors."""


class OptimalityError(PinsError, RuntimeError):
    """A decision that is not the optimum of its program: a defect of PINS."""


class ProgramError(PinsError, ValueError):
    """An explicit program that is malformed, or not of the kind a solver takes."""


class CertificateError(PinsError, ValueError):
    """A certificate that cannot be made."""


class ClaimError(PinsError, ValueError):
    """A ledger that cannot be run as asked."""


class FileError(PinsError, OSError):
    """A file that cannot be read or may not be written."""


class ModelError(PinsError, RuntimeError):
    """A model that is missing or is not the one asked for."""


class TaskError(PinsError, ValueError):
    """Task data that is missing or malformed."""


class DeviceError(PinsError, ValueError):
    """A device or a precision that is not there."""


class SettingError(PinsError, ValueError):
    """A setting of a run that makes no sense."""


class EntryPointError(PinsError, RuntimeError):
    """A registered command or certifier that cannot be loaded."""


class CheckpointError(PinsError, RuntimeError):
    """A checkpoint that is torn, or of another run."""
