"""Trains the models that ship: one command a model, each run writes weights and a card."""
