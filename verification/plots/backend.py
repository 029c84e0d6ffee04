"""Import matplotlib whatever MPLBACKEND names: figures become files, which needs no backend."""

import contextlib
import os

_asked = os.environ.pop("MPLBACKEND", None)  # a backend that is not installed fails the import

import matplotlib as mpl  # noqa: E402

if _asked is not None:
    os.environ["MPLBACKEND"] = _asked
    with contextlib.suppress(ValueError):  # the user's own plots keep their backend, if it exists
        mpl.rcParams["backend"] = _asked
