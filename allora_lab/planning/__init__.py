"""What a fine-tune would need, from a model's configuration alone: no weight is read."""
