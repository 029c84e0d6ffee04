"""Passes over the scores of a whole model: one reference, and faster backends."""
