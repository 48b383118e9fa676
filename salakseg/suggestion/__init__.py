"""Patches in, the photographs to label next out."""
