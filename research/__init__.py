"""Trains and measures what ships, and reproduces the papers. Imports the product; nothing imports it."""
