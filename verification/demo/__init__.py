"""`pins demo`: fine-tune, prune, certify and report on a real model."""
