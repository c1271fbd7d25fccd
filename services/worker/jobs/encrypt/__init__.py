"""The job kind ``encrypt``; ``job`` runs it."""
