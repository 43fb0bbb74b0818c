"""The commands: ``mm_graft NAME …``, and the doors of ``tools/`` to the same functions."""
