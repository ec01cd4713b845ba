"""`basic-export`: what it prints, and one-line errors."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from basic_export.bundle import new_bundle
from basic_export.cli import main
from basic_export.engines import copy_bundle
from basic_runtime import Codec, FileError
from basic_train import checkpoint
from basic_train.model.presets import TINY
from basic_train.model.supernet import Supernet

from .models import Exported, Small


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(item) for item in arguments])


def error_of(result: Result) -> str:
    """The one line of an expected failure, behind those of the steps before."""
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert [line for line in lines if line.startswith("basic-export: error: ")] == lines[-1:], result.stderr
    return lines[-1]


def test_help_imports_no_heavy_package() -> None:
    code = """
import sys
from click.testing import CliRunner
from basic_export.cli import main
assert CliRunner().invoke(main, ["--help"]).exit_code == 0
print({"torch", "onnx", "onnxruntime", "numpy", "rich"} & set(sys.modules))
"""
    assert subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["onnxscript"] = None
from basic_export.cli import main
main(["model.safetensors", "-o", "bundle"])
"""
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 1
    assert "pip install '.[export]' in the sources" in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    line = error_of(run(tmp_path / "none.safetensors", "-o", tmp_path / "bundle"))
    assert "none.safetensors" in line


def test_a_damaged_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(tiny_checkpoint.read_bytes()[:-1000])
    assert "damaged.safetensors" in error_of(run(damaged, "-o", tmp_path / "bundle"))
    damaged.write_bytes(b"no checkpoint at all")
    assert "damaged.safetensors" in error_of(run(damaged, "-o", tmp_path / "bundle"))


def test_an_existing_bundle_stays(exported: Exported, tiny_checkpoint: Path) -> None:
    before = (exported.path / "manifest.json").read_bytes()
    assert "pass --overwrite" in error_of(run(tiny_checkpoint, "-o", exported.path))
    assert (exported.path / "manifest.json").read_bytes() == before


def test_the_folder_one_is_in(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name as "." has no other name beside it: a ValueError."""
    copy_bundle(exported.path, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path / "bundle")
    with pytest.raises(KeyboardInterrupt), new_bundle(Path("."), overwrite=True) as writer:
        assert writer.folder.parent == tmp_path and writer.target == tmp_path / "bundle"
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_full_disk_is_said_of_the_bundle(tmp_path: Path) -> None:
    """It was said of standard output."""
    target = tmp_path / "bundle"
    with pytest.raises(FileError, match=r"bundle: cannot be written \(no space left"), new_bundle(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_overwrite_spares_what_is_no_bundle(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("data")
    assert "is not a bundle" in error_of(run(tiny_checkpoint, "-o", tmp_path, "--overwrite"))
    assert (tmp_path / "precious.txt").read_text() == "data"


def test_a_folder_without_photos(tiny_checkpoint: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no pictures found" in error_of(run(tiny_checkpoint, "-o", tmp_path / "b", "--data", empty))
    assert not (tmp_path / "b").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_more_levels_than_a_file_can_name(tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = run(tiny_checkpoint, "-o", tmp_path / "b", "--levels", 9)
    assert result.exit_code == 2
    assert "1<=x<=8" in result.stderr


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "a b", "../x"])
def test_a_name_that_files_cannot_hold(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    result = run(tiny_checkpoint, "-o", tmp_path / "b", "--name", name)
    assert result.exit_code == 2
    assert "1 to 15" in result.stderr


def test_overwrite_and_tables(small: Small) -> None:
    """A run folder as CHECKPOINT, a bundle replaced whole, no verification and tables as output."""
    result = small.result
    assert result.exit_code == 0, result.output
    assert "warning: --no-verify" in result.stderr
    assert "dead hidden units\n" in result.stderr  # a line for each step, where no bar can be shown
    assert not (small.path / "old").exists()
    assert [path.name for path in small.path.parent.iterdir()] == ["bundle"]
    for words in ("Levels", "Graphs", "Integer entropy path against float", "not checked", "model small"):
        assert words in result.stdout


def test_another_process_writes_the_same_bytes(small: Small, tmp_path: Path) -> None:
    again = tmp_path / "again"
    command = [sys.executable, "-P", "-m", "basic_export", *small.arguments, str(again)]
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True)

    def hashes(folder: Path) -> dict[str, str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    assert hashes(again) == hashes(small.path)


def test_one_of_several_groupings_is_exported(tmp_path: Path) -> None:
    learned = [[[0, 1], [2, 0]], [[1, 3], [3, 2]]]
    config = TINY.changed({"alternatives": [{"name": "learned", "tile": learned}]})
    torch.manual_seed(0)
    source, target = tmp_path / "both.safetensors", tmp_path / "bundle"
    checkpoint.save(source, Supernet(config).state_dict(), config, {})
    options = ["-o", target, "--levels", 1, "--no-verify", "--grouping"]
    assert "has no grouping 'zigzag'; it has group-diagonal, learned" in error_of(run(source, *options, "zigzag"))
    assert run(source, *options, "learned").exit_code == 0
    codec = Codec(target)
    assert [len(stage.slots) for stage in codec.bundle.manifest.entropy_variants[0].stages] == [2, 2, 2, 2]
    picture = np.arange(64 * 80 * 3, dtype=np.uint8).reshape(64, 80, 3)
    assert codec.decode(codec.encode(picture)).shape == picture.shape
