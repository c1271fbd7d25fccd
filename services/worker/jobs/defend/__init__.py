"""The job kind ``defend``; ``job`` runs it."""
