"""Settings for all tests."""

import pytest
from hypothesis import settings

from basic_runtime.engines.cuda import gpu_present

# Machines under load make single examples slow, and a failure must come back on the next run.
settings.register_profile("default-here", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("default-here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not gpu_present():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))
