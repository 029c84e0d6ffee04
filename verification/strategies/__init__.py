"""Hypothesis strategies for the objects of PINS: scores, trees of bounds, masks, programs.

For the tests of this package and of packages that build on it; needs the extra 'laws'. Examples
are valid unless the docstring says otherwise: the laws must hold for all of them. `assert_law` and
`counterexample` test a law for any selector, whatever Hypothesis profile is loaded.
"""

from verification.strategies.instances import (
    Instance,
    instances,
    integer_selections,
    matrices,
    matrix_selections,
    selections,
)
from verification.strategies.programs import programs
from verification.strategies.schedules import cubic_schedules, schedules, sparsities
from verification.strategies.search import assert_law, counterexample
from verification.strategies.smallest import smallest
from verification.strategies.tensors import (
    DTYPES,
    masks,
    masks_for,
    score_mappings,
    scores,
    shapes,
)
from verification.strategies.trees import Tree, tree_pairs, trees

__all__ = [
    "DTYPES",
    "Instance",
    "Tree",
    "assert_law",
    "counterexample",
    "cubic_schedules",
    "instances",
    "integer_selections",
    "masks",
    "masks_for",
    "matrices",
    "matrix_selections",
    "programs",
    "schedules",
    "score_mappings",
    "scores",
    "selections",
    "shapes",
    "smallest",
    "sparsities",
    "tree_pairs",
    "trees",
]
