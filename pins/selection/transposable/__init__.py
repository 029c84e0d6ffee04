"""Transposable N:M: each M × M block keeps exactly N weights in each row and in each column."""
