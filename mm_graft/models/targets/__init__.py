"""Targets that are computed from the image."""
