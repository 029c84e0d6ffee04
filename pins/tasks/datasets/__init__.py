"""Task data, one module for each data set or collection."""
