"""Process groups, collectives, sharded tensors and their checkpoints."""
