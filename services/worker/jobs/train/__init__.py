"""The job kind ``train``; ``job`` runs it."""
