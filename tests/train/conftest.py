"""Small models do not profit from threads, and pytest-xdist uses the cores already."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


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
