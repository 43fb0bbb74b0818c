"""Masks, generated for a whole batch on its device."""
