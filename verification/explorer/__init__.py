"""The explorer: one page that opens from disk and recomputes pruning decisions as controls move.

Its numbers are those of PINS to the last bit, computed in the browser from a sample of a real run.
"""

from verification.explorer.page import FILE, MARK, page, write

__all__ = ["FILE", "MARK", "page", "write"]
