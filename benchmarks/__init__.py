"""Benchmarks: a registry of instances, one driver per question. Run from a checkout."""
