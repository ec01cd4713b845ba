"""Packed models: what is written is what docs/model-file.md says, as a decoder written from that page shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from c_commands import scene
from click.testing import CliRunner, Result
from commands import fails
from reference_model import ReferenceModel

from basic_runtime.bundle import Bundle
from basic_runtime.cli import main
from basic_runtime.codec import Codec
from basic_runtime.container import read, write
from basic_runtime.engines.pixel_path import PixelPath
from basic_runtime.packed_model import packed_model
from basic_runtime.quality import quality_step


@pytest.mark.parametrize(("level", "quality", "gray"), [(0, 1, False), (0, 90, True), (3, 40, False), (7, 100, False)])
def test_the_page_says_all_that_a_decoder_needs(bundle: Bundle, level: int, quality: int, gray: bool) -> None:
    pixels = scene(50, 75)
    data = Codec(bundle, threads=1).encode(pixels[:, :, 0] if gray else pixels, quality=quality, level=level, effort=0)
    model = ReferenceModel(packed_model(bundle, [level], [level]))
    unfiltered = Codec(bundle, threads=1)
    expected = unfiltered._decoded(read(data), bundle.level(level).g_s)
    np.testing.assert_array_equal(model.decode(write(read(data))), expected)


@pytest.mark.parametrize(("level", "quality"), [(0, 20), (7, 100)])
def test_the_page_says_all_that_an_encoder_needs(bundle: Bundle, level: int, quality: int) -> None:
    pixels, step = scene(50, 75), quality_step(quality)
    model = ReferenceModel(packed_model(bundle, [level], [], encoders=True))
    assert model.worth is not None and model.worth[step] == bundle.lambda_of(step)
    y, z = model.analyse(pixels, level, step)
    spec, path = bundle.level(level), PixelPath(bundle)
    padded = np.pad(pixels, ((0, 14), (0, 53), (0, 0)), mode="edge").transpose(2, 0, 1)[None]
    expected = np.asarray(path.engines(spec.g_a, step, 1)[0].run({"x": padded})["y"])
    np.testing.assert_array_equal(y[None], expected)
    found = np.asarray(path.engines(spec.h_a, step, 1)[0].run({"y": expected})["z"])
    np.testing.assert_array_equal(z[None], np.clip(np.floor(found + np.float32(0.5)), -model.z_amax, model.z_amax))


def test_packing_gives_the_same_file_again(bundle: Bundle, small_model: Path) -> None:
    assert packed_model(bundle, (0, 0), (0,)) == small_model.read_bytes()


def test_the_command(small_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "level0.basicmodel"
    run = CliRunner().invoke
    told = run(main, ["pack", "--levels", "0", "-o", str(target), "--json"])
    assert told.exit_code == 0
    size = small_model.stat().st_size
    assert json.loads(told.stdout) == {
        "output": str(target),
        "bytes": size,
        "model": Bundle().name,
        "levels": [0],
        "from_levels": [0],
        "encoders": False,
    }
    assert target.read_bytes() == small_model.read_bytes()
    fails(run(main, ["pack", "--levels", "0", "-o", str(target)]), str(target), "--overwrite")
    again = run(main, ["pack", "--levels", "0", "--from-levels", "0,7", "-o", str(target), "--overwrite"])
    assert "decodes at level 0, files made at levels 0, 7" in again.stdout
    assert target.stat().st_size > size


@pytest.mark.parametrize("levels", ["8", "0,", "x", "-1", ""])
def test_levels_that_cannot_be(levels: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["pack", "--levels", levels, "-o", str(tmp_path / "a")])
    assert result.exit_code == 2 and "no list of levels" in result.stderr
    assert not list(tmp_path.iterdir())


def test_bundles_that_cannot_be_packed(bundle: Bundle, tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "tiny-golden"  # of before bundles said how to compute in integers
    target = tmp_path / "a"

    def pack(levels: str, path: Path) -> Result:
        command = ["pack", "--levels", levels, "-o", str(target), "--bundle", str(path)]
        return CliRunner().invoke(main, command)

    fails(pack("0", golden), "cannot be packed", "export the bundle again")
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    (copy / "weights.bin").write_bytes(b"")
    fails(pack("0", copy), "weights.bin")
    assert not target.exists()
