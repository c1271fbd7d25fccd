"""Alembic migrations, run from code on SQLite and Postgres."""
