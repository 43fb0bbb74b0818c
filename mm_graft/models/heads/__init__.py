"""Predictions and their losses."""
