"""Settings for all tests."""

from hypothesis import settings

# Machines under load make single examples slow, and a failure must come back on the next run.
settings.register_profile("default-here", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("default-here")
