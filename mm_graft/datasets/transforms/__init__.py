"""Transforms of single images."""
