"""Filters of decoded pixels, fitted to photos as a bundle decodes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from basic_export.bundle import id_with_filters
from basic_export.photos import BUNDLED, bundled_photo
from basic_export.post_filters import filters_of
from basic_export.upgrade import main
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


def add(bundle: Path, pictures: Path, *options: str) -> Result:
    return CliRunner().invoke(main, [str(bundle), "--photos", str(pictures), "--filters", "filtered-1", *options])


def test_a_bundle_with_filters_is_another_model_that_reads_the_files_of_the_first(bundle: Path, pictures: Path) -> None:
    photo = bundled_photo("astronaut")[:200, :170]
    before = Codec(bundle, threads=1)
    data = before.encode(photo, quality=60, level=0, effort=0)
    pixels = before.decode(data)
    result = add(bundle, pictures)
    assert result.exit_code == 0 and "2 g_s have filters" in result.output
    after = Codec(bundle, threads=1)
    assert after.bundle.name == "filtered-1" and not after.bundle.manifest.earlier["01234567"].filtered
    assert after.bundle.model_id != "01234567"
    np.testing.assert_array_equal(after.decode(data), pixels)
    again = after.encode(photo, quality=60, level=0, effort=0)
    assert psnr(photo, after.decode(again)) > psnr(photo, pixels) + 0.1


def test_filters_are_added_once(bundle: Path, pictures: Path) -> None:
    assert add(bundle, pictures).exit_code == 0
    manifest = (bundle / "manifest.json").read_bytes()
    result = add(bundle, pictures)
    assert result.exit_code == 1 and "has filters already" in result.output and result.output.count("\n") == 1
    assert (bundle / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize("options", [("--checkpoint", "a"), ("--filters", "no name")])
def test_wrong_options(bundle: Path, pictures: Path, options: tuple[str, str]) -> None:
    assert add(bundle, pictures, *options).exit_code == 2


def test_one_photo_decides_nothing(bundle: Path, tmp_path: Path) -> None:
    photo = bundled_photo("coffee")[:SIDE, :SIDE]
    assert filters_of(Bundle(bundle), [photo]) == {}
    (tmp_path / "one").mkdir()
    Image.fromarray(photo).save(tmp_path / "one" / "coffee.png")
    result = add(bundle, tmp_path / "one")
    assert result.exit_code == 1 and "holds one photo: filters are fitted to some" in result.output


def test_an_upgrade_takes_a_folder_not_a_name(pictures: Path) -> None:
    result = add(Path("lite-11"), pictures)
    assert result.exit_code == 1 and "lite-11: no such folder; name the folder of a bundle" in result.output


def test_filters_are_part_of_the_models_identity() -> None:
    assert id_with_filters("01234567", {}) == "01234567"
    ids = {id_with_filters("01234567", {"a": {"weights": [text]}}) for text in ("00", "01")}
    assert len(ids) == 2 and all(len(found) == 8 for found in ids)
