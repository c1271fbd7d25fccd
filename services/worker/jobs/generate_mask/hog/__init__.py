"""Patterns against dlib's HOG face detector, for ``generate-mask``."""
