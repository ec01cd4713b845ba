"""Settings for all tests, and photos for those that train."""

from pathlib import Path

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


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scikit-image's bundled photos and parts of them, so that some are held out."""
    from PIL import Image
    from skimage import data

    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "chelsea", "coffee"):
        picture = Image.fromarray(getattr(data, name)())
        for part, left in (("left", 0), ("right", picture.width - 300)):
            picture.crop((left, 0, left + 300, 300)).save(folder / f"{name}-{part}.png")
    return folder
