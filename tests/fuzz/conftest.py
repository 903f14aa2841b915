"""How long the fuzz looks: seconds in `make test`, with fixed examples; minutes in `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

COMMON = {
    "deadline": None,  # a first example loads torch; 30 seconds an example are held by `outcome`
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
settings.register_profile("short", max_examples=20, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=1000, print_blob=True, **COMMON)
settings.load_profile(os.environ.get("ALLORA_LAB_FUZZ", "short"))
