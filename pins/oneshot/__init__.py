"""One-shot pruning: the blocks of a decoder one after the other, each from its own inputs."""
