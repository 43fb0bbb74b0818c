"""Modules between encoder and head."""
