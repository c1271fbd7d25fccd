"""Data sets: archives, importing, packs, splits, near duplicates."""
