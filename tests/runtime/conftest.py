"""Fixtures around the tiny bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Results of golden checks are remembered apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("BASIC_BUNDLE", raising=False)
        yield


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny bundle; tests do not write into it."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny-1")


@pytest.fixture(scope="session")
def other_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a bundle of another model."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny-2", seed=2, name="tiny-2")


@pytest.fixture
def bundle_copy(tiny_path: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_path, tmp_path / "copy"))


@pytest.fixture(scope="session")
def photo() -> Callable[[int, int], np.ndarray]:
    """photo(height, width): smooth coloured content with grain, the same each time, uint8 (H, W, 3)."""
    from basic_runtime.profile import synthetic_picture

    return lambda height, width: synthetic_picture(width, height, seed=height + width)
