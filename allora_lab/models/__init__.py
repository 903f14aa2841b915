"""Pretrained models by key, by folder or by hub id."""
