"""The worker: Celery app, job modules, and below them the algorithms."""

import os

# Threads that wait for each other sleep: where other processes want the same cores, threads that
# spin took twenty times as long as one alone. OpenMP reads it when PyTorch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
