"""What all benchmarks share: command line, devices, processes, results, score sets."""
