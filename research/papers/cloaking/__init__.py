"""Face encryption (paper 003).

``python -m research.papers.cloaking`` writes ``docs/results/encrypt.md``.
"""
