"""The tables of the source papers, run again: ``python -m services.reproduce --help``."""
