"""Face detection, alignment and recognition."""
