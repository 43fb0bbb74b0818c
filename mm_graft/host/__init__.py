"""The one room in which objects of other packages are changed, each for a stated reason."""
