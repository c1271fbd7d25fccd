"""Adversarial attacks on classifiers: pixel, gradient, score-based and decision-based."""
