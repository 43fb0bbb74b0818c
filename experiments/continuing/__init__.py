"""Continuing from public weights without forgetting: what each rule wins on new images and keeps on old ones."""
