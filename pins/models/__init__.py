"""A network and what it predicts: batches, heads, losses, teachers, prunable weights."""
