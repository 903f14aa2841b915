"""The one training loop, and what it measures, evaluates and saves."""
