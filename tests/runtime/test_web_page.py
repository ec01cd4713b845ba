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
from basic_runtime.errors import FileError
from basic_runtime.packed_model import packed_model
from basic_runtime.web_page import MODEL, PAGE, PROGRAM, web_folder

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
    (tmp_path / "cut.basic").write_bytes(golden.read_bytes()[:-1])
    fails(run(site, tmp_path / "cut.basic"), "cut.basic", "cut off")
    fails(run(site, tmp_path / "none.basic"), "none.basic", "cannot be read")
    assert run(site, "-").exit_code == 2
    fails(run(site, tmp_path / "below"), "below: ", "cannot be read")
    (tmp_path / "empty").mkdir()
    fails(run(site, tmp_path / "empty"), "empty: no files in this folder that end in .basic")
    data = (packed / "a<b> & c.basic").read_bytes()
    for name in (PAGE, MODEL, PROGRAM[0]):
        (tmp_path / name).write_bytes(data)
        fails(run(site, tmp_path / name), f"{tmp_path / name}: the page has a part of this name: rename the file")
    with pytest.raises(FileError, match="index.html: the page has a part of this name"):
        web_folder(site, Bundle(), {PAGE: data})
    assert not site.exists()


def test_a_file_that_cannot_be_shown_does_not_stop_the_rest(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.basic").write_bytes(b"no file")
    result = run(tmp_path / "si te", tmp_path / "cut.basic", packed, packed / "below" / "50%.basic", packed / "below")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"basic-run: error: {tmp_path / 'cut.basic'}: this is no .basic file")
    assert lines[1:] == [f"look at it: cd '{tmp_path / 'si te'}' && python3 -m http.server"]
    assert (tmp_path / "si te" / "below" / "50%.basic").is_file()
    assert "cut" not in (tmp_path / "si te" / PAGE).read_text()
    (tmp_path / "50%.basic").write_bytes((packed / "below" / "50%.basic").read_bytes())
    result = run(tmp_path / "other", packed / "below", tmp_path / "50%.basic", "--json")
    fails(result, "50%.basic: another file has the name 50%.basic: rename one")
    assert "50%.basic" in json.loads(result.stdout)["files"]


def test_what_is_there_is_found_before_anything_is_written(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "50%.basic").write_bytes(b"mine")
    fails(run(tmp_path, packed), "50%.basic: exists already")
    assert [path.name for path in tmp_path.iterdir()] == ["below"]
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "below").write_bytes(b"mine")
    fails(run(tmp_path / "site", packed), "below: cannot be made a folder")
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["below"]
