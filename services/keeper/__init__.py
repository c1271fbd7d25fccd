"""The keeper: one small process with the periodic duties."""
