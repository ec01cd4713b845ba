"""Filters of decoded pixels, fitted to photos as a bundle decodes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from basic_export.bundle import id_with_filters
from basic_export.cli import main
from basic_export.photos import BUNDLED, bundled_photo, filter_photos
from basic_export.post_filters import filters_of
from basic_runtime.bundle import Bundle, default_bundle_path
from basic_runtime.codec import Codec
from basic_runtime.metrics import psnr

SIDE = 256


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Middles of scikit-image's photos: two to fit filters to, two to try them on."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in BUNDLED:
        Image.fromarray(bundled_photo(name)[20 : 20 + SIDE, 40 : 40 + SIDE]).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The model that ships, without its filters and with its two cheapest levels alone."""
    folder = shutil.copytree(default_bundle_path(), tmp_path / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"] = {"name": "plain-1", "id": "01234567"}
    manifest["levels"] = manifest["levels"][:2]
    for entry in manifest["graphs"].values():
        entry.pop("filter", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def with_filters(bundle: Path, pictures: list[np.ndarray]) -> int:
    """Give the bundle in a folder filters, and so another identity; returns how many it got."""
    filters, manifest = filters_of(Bundle(bundle), pictures), json.loads((bundle / "manifest.json").read_text())
    for graph, weights in filters.items():
        manifest["graphs"][graph]["filter"] = weights
    before = manifest["model"]["id"]
    earlier = {before: {"g_s": [level["g_s"] for level in manifest["levels"]], "filtered": False}}
    manifest["model"] = {"name": "filtered-1", "id": id_with_filters(before, filters), "earlier": earlier}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return len(filters)


def test_a_bundle_with_filters_is_another_model_that_reads_the_files_of_the_first(bundle: Path, pictures: Path) -> None:
    photo = bundled_photo("astronaut")[:200, :170]
    before = Codec(bundle, threads=1)
    data = before.encode(photo, quality=60, level=0, effort=0)
    pixels = before.decode(data)
    assert with_filters(bundle, filter_photos(pictures)) == 2
    after = Codec(bundle, threads=1)
    assert after.bundle.name == "filtered-1" and not after.bundle.manifest.earlier["01234567"].filtered
    assert after.bundle.model_id != "01234567"
    np.testing.assert_array_equal(after.decode(data), pixels)
    again = after.encode(photo, quality=60, level=0, effort=0)
    assert psnr(photo, after.decode(again)) > psnr(photo, pixels) + 0.1


def test_one_photo_decides_nothing(bundle: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    photo = bundled_photo("coffee")[:SIDE, :SIDE]
    assert filters_of(Bundle(bundle), [photo]) == {}
    (tmp_path / "one").mkdir()
    Image.fromarray(photo).save(tmp_path / "one" / "coffee.png")
    arguments = [tiny_checkpoint, "-o", tmp_path / "new", "--data", tmp_path / "one", "--levels", 1, "--no-verify"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0
    assert "no filters of decoded pixels: they take two photos or more" in " ".join(result.output.split())


def test_filters_are_part_of_the_models_identity() -> None:
    assert id_with_filters("01234567", {}) == "01234567"
    ids = {id_with_filters("01234567", {"a": {"weights": [text]}}) for text in ("00", "01")}
    assert len(ids) == 2 and all(len(found) == 8 for found in ids)
