"""Tools that know nothing of pruning: files, tensors, bits, devices, provenance."""
