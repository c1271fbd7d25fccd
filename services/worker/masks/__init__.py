"""Adversarial face masks: put on faces, generated, trained against recognizers, printed."""
