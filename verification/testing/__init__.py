"""Inputs for property tests: synthetic scores, ranks as threads."""
