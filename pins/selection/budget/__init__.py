"""One option for each layer, the least sum of errors within a budget: exact, in rationals."""

from pins.selection.budget.choice import Choice, best_choice, judged
from pins.selection.budget.spec import Budget
from pins.selection.budget.table import ErrorTable

__all__ = ["Budget", "Choice", "ErrorTable", "best_choice", "judged"]
