"""What removing a weight costs: criteria, models of the loss, averages over steps."""
