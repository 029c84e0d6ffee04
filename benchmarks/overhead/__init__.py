"""What does pruning cost in a training step?"""
