"""Attacks on classifiers, one module each, on one base."""
