"""Adversarial masks (paper 004).

``python -m research.papers.masks`` writes ``docs/results/masks.md``.
"""
