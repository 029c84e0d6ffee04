"""Regular files alone are read: a pipe waits for its writer, and a device may never end.

Imports neither torch nor numpy.
"""

import errno
import stat
from pathlib import Path

_OTHERS = (stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR, stat.S_ISBLK)


def require_regular(path: Path) -> None:
    """Refuse what blocks its reader; a folder and a missing file are errors of opening them.

    Raises:
        OSError: a pipe, a socket or a device is at `path`, or nothing is.
    """
    mode = path.stat().st_mode
    if any(kind(mode) for kind in _OTHERS):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device: give a file", str(path))
