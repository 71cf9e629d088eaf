"""Separators as graphs for other runtimes."""
