"""The job kind ``evaluate``; ``job`` runs it."""
