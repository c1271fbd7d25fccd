"""The worker: Celery app, job modules, and below them the algorithms."""
