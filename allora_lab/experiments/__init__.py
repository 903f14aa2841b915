"""From a configuration to a record: one run, a sweep of runs, the demo."""
