"""Algorithms: backbone, neck and head put together into a loss."""
