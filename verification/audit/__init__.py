"""What anybody's sparse model is: read, compare with the dense one, find its pattern, judge it."""
