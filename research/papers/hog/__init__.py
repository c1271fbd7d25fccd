"""Patterns against dlib's HOG detector (paper 002).

``python -m research.papers.hog`` writes ``docs/results/hog.md``.
"""
