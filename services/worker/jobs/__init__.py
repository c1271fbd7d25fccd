"""A package or module a job kind; the only place where algorithms meet the job engine."""
