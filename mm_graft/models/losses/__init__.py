"""Losses: an equation as a function, and a thin module."""
