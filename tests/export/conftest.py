"""A tiny supernet with random weights, its checkpoint, and one bundle exported from it for all tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from basic_export.cli import main
from basic_export.photos import bundled_photo
from basic_train import checkpoint
from basic_train.model.supernet import Supernet

from .models import Exported, Small, random_tiny

# Small models do not profit from threads, and pytest-xdist uses the cores already.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results of golden checks are remembered apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_net() -> Supernet:
    return random_tiny()


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small photos, neither of a side that is a multiple of 64."""
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(bundled_photo("astronaut")[100:230, 150:350]).save(folder / "astronaut.png")
    Image.fromarray(bundled_photo("chelsea")[50:250, 100:230]).save(folder / "chelsea.png")
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_net: Supernet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    checkpoint.save(path, tiny_net.state_dict(), tiny_net.config, {})
    return path


@pytest.fixture(scope="session")
def exported(tiny_checkpoint: Path, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    photo = photo_folder / "astronaut.png"
    arguments = [tiny_checkpoint, "-o", path, "--data", photo_folder, "--check-photo", photo, "--json"]
    result = CliRunner().invoke(main, [str(item) for item in arguments])
    assert result.exit_code == 0, result.output
    return Exported(path, json.loads(result.stdout), result.stderr)


@pytest.fixture(scope="session")
def small(tiny_checkpoint: Path, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """One level, not verified, in place of an older bundle, from the run folder that holds the checkpoint."""
    path = tmp_path_factory.mktemp("small") / "bundle"
    path.mkdir()
    (path / "manifest.json").write_text("{}")
    (path / "old").write_text("")
    photo = photo_folder / "chelsea.png"
    arguments = [
        tiny_checkpoint.parent, "--levels", 1, "--name", "small", "--data", photo_folder, "--check-photo", photo,
        "--no-verify", "--overwrite", "-o",
    ]  # fmt: skip
    texts = [str(item) for item in arguments]
    return Small(path, texts, CliRunner().invoke(main, [*texts, str(path)]))
