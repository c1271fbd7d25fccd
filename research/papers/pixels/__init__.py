"""Few-pixel attacks and seam carving (papers 000 and 001).

``python -m research.papers.pixels`` writes ``docs/results/pixels.md``.
"""
