"""Events of the training life."""
