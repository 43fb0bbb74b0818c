"""Analyses of what layers learn, for any module and loss."""
