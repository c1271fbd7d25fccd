"""The tables of the source papers, run again: one package a paper."""
