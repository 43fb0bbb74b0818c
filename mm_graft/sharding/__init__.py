"""Parameters split over processes: what supports it, and how weights are split and gathered."""
