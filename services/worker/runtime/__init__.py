"""The job engine: claims, heartbeats, contexts, and the end of every job."""
