"""Architectures, the model wrapper, the registry and its weights."""
