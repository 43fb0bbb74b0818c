"""Which patches are hidden: masks made for a whole batch on its device."""
