"""Batched work on the device before the forward."""
