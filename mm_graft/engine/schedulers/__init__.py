"""Param schedulers."""
