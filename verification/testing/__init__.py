"""Synthetic scores and a process group of threads, for tests and claims."""
