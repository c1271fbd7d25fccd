"""Trains and measures what ships and reproduces the papers. Nothing of the product imports it."""
