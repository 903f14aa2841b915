"""The papers' mathematics as pure functions: numbers in, numbers out, no drawing and no training."""
