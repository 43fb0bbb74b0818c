"""Runs that survive: atomic checkpoints, exact resume, signals, non-finite steps."""
