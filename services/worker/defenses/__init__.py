"""Defenses of classifiers: transformations, detectors, certificates."""
