"""The application `pins prune`: settings, training, checkpoints, export, report."""
