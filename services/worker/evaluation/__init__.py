"""Judges classifiers: clean reports with intervals, and how attacks and defenses change them."""
