"""Which modules get how many ranks: scores, the allocator and its rivals (ALoRA, arXiv 2403.16187)."""
