"""The job kind ``attack``; ``job`` runs it."""
