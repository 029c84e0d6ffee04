"""Scores and a constraint in, the optimal mask and its proof out."""
