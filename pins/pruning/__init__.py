"""When and how to decide during training: the pruner, schedules, kept zeros."""
