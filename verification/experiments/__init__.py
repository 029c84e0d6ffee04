"""Measurements on real and toy models, which claims, plots and demo share."""
