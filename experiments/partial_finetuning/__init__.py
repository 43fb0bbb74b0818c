"""Fine-tuning with more and more frozen blocks."""
