"""A graft trained with every combination of stage learning rates."""
