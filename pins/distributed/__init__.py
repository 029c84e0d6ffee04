"""Ranks and shards: process groups, collectives, sharded tensors and their files."""
