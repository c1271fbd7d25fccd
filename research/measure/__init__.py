"""Measures the models that ship, on test folders and across sources."""
