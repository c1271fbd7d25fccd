"""Adversarial cloaking: small changes after which recognizers take a face for someone else's."""
