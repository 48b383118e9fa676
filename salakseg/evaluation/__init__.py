"""Scores of a model on held-out patches or full images."""
