"""The job kind ``generate-mask``; ``job`` runs it."""
