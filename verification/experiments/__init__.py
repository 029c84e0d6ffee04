"""Measurements on real and made-up models, which claims, plots and demo share."""
