"""Data sets, training loops and metrics."""
