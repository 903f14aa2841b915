"""Text with labels: where it comes from, its fixed splits, and batches by (seed, step)."""
