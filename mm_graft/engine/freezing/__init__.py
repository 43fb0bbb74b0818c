"""Freeze layers while training, and save what their backward pass would have cost."""
