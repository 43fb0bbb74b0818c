"""Experiments at small scale: each a folder with its configs, run by ``python -m experiments.<name>``."""
