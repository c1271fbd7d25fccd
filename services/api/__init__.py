"""The HTTP side. Importing it never imports torch."""
