"""`basic-run web`: a folder that shows files in browsers."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from commands import fails

from basic_runtime.bundle import Bundle
from basic_runtime.cli import main
from basic_runtime.codec import Codec
from basic_runtime.packed_model import packed_model
from basic_runtime.web_page import MODEL, PAGE, PROGRAM

EARLIER = Path(__file__).parents[1] / "golden" / "earlier" / "lite-9-level3.basic"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["web", *map(str, arguments)])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two files, one of them below, whose names need escapes."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "below").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    data = Codec(threads=1).encode(pixels, level=0)
    (folder / "a<b> & c.basic").write_bytes(data)
    (folder / "below" / "50%.basic").write_bytes(data)
    return folder


def test_a_folder_of_files(packed: Path, tmp_path: Path) -> None:
    site = tmp_path / "new" / "site"
    result = run(site, packed, "--json")
    assert result.exit_code == 0, result.output
    names = {*PROGRAM, PAGE, MODEL, "a<b> & c.basic", "below/50%.basic"}
    assert {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()} == names
    told = json.loads(result.stdout)
    assert told["files"] == {name: (site / name).stat().st_size for name in told["files"]}
    assert set(told["files"]) == names
    page = (site / PAGE).read_text()
    assert re.findall(r'src="([^"]*\.basic)"', page) == ["a%3Cb%3E%20%26%20c.basic", "below/50%25.basic"]
    assert "a&lt;b&gt; &amp; c.basic: 30x40" in page and "<!-- " not in page
    assert (site / MODEL).read_bytes() == packed_model(Bundle(), [0], [0])


def test_names_that_are_no_text(packed: Path, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"\xff.basic")
    source.write_bytes((packed / "a<b> & c.basic").read_bytes())
    assert run(tmp_path / "site", source).exit_code == 0
    page = (tmp_path / "site" / PAGE).read_text()
    assert 'src="%FF.basic"' in page and "\ufffd.basic: 30x40" in page


def test_a_folder_without_files(tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert "model.basicmodel" in run(site).stdout
    assert (site / MODEL).read_bytes() == packed_model(Bundle(), [0], [0])
    assert "made at level 0" in (site / PAGE).read_text()
    assert "image/*" not in (site / PAGE).read_text()
    fails(run(site), "--overwrite")
    assert run(site, "--overwrite", "--levels", "1").exit_code == 0
    assert "made at level 1" in (site / PAGE).read_text()


def test_a_page_that_encodes(tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert run(site, "--encoders", "--levels", "0,3").exit_code == 0
    assert (site / MODEL).read_bytes() == packed_model(Bundle(), [0, 3], [0, 3], encoders=True)
    page = (site / PAGE).read_text()
    assert 'accept=".basic,image/*"' in page and "Drop a photo" in page


def test_files_of_an_earlier_model(tmp_path: Path) -> None:
    assert run(tmp_path / "site", EARLIER).exit_code == 0
    assert (tmp_path / "site" / MODEL).read_bytes() == packed_model(Bundle(), [3], [3], earlier=True)


def test_what_cannot_be_shown(packed: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    golden = Path(__file__).parents[1] / "golden" / "gray.basic"
    fails(run(site, golden), "gray.basic", "tiny", "--bundle")
    (tmp_path / "gray.basic").write_bytes(golden.read_bytes())
    fails(run(site, golden, tmp_path / "gray.basic"), "gray.basic", "rename one")
    (tmp_path / "cut.basic").write_bytes(golden.read_bytes()[:-1])
    fails(run(site, tmp_path / "cut.basic"), "cut.basic", "cut off")
    fails(run(site, tmp_path / "none.basic"), "none.basic", "cannot be read")
    assert run(site, "-").exit_code == 2
    assert not site.exists()
