"""What a machine remembers between runs, and a cache folder that cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from basic_runtime import machine
from basic_runtime.bundle import Bundle
from basic_runtime.cache import contents, place_of, remember, remembered, store
from basic_runtime.codec import Codec
from basic_runtime.engines import FLOAT32, INT16, create_backend, native
from basic_runtime.engines.openvino import OpenVinoBackend
from basic_runtime.errors import FileError, MachineProfileError
from basic_runtime.machine import MachineProfile
from basic_runtime.threads import default_threads

EMPTY = '{"model_id": "a", "engine": "auto", "threads": 1, "stride": %s, "times": [%s]}'
ROW = '{"level": 0, "direction": "encode", "effort": 0, "pixels": [9], "ms": [9]}'


def test_answers_are_remembered_by_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("engines", ["a", 1], "first")
    remember("engines", ["a", 1], "second")
    assert remembered("engines", ["a", 1]) == "second"
    assert remembered("engines", ["a", 2]) is None and remembered("golden", ["a", 1]) is None
    assert [path.name for path in (tmp_path / "basic" / "engines").iterdir()] == [place_of("engines", ["a", 1]).name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_answer_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number, make in enumerate((os.mkfifo, lambda place: place.symlink_to("/dev/zero"), Path.mkdir)):
        remember("engines", [number], "yes")
        place = place_of("engines", [number])
        place.unlink()
        make(place)
        assert remembered("engines", [number]) is None
    remember("engines", ["long"], "x" * 70_000)
    assert remembered("engines", ["long"]) is None


def test_a_cache_that_cannot_be_written(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No matter for answers, which are found again; an error in one line for what a user asked to keep."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember("engines", ["a"], "first")
    assert remembered("engines", ["a"]) is None
    with pytest.raises(FileError, match="cannot be written .*XDG_CACHE_HOME"):
        store(place_of("engines", ["a"]), b"")
    found = MachineProfile("0" * 8, "onnxruntime", 1, 64, ())
    with pytest.raises(FileError, match=r"\.json: cannot be written"):
        machine.save(found, Bundle(tiny_path), create_backend("onnxruntime", 1))


@pytest.mark.parametrize(
    "content",
    ["5", "null", "[]", "{", "[" * 100_000, '{"times": 3}', EMPTY % (64, ""), EMPTY % (0, ROW), EMPTY % ('"a"', ROW),
     EMPTY % (64, ROW.replace("[9]", "[]"))],
)  # fmt: skip
def test_a_damaged_profile_is_none(tiny_path: Path, tmp_path: Path, content: str) -> None:
    bundle, backend = Bundle(tiny_path), create_backend("onnxruntime", 1)
    machine.save(MachineProfile("0" * 8, "onnxruntime", 1, 64, ()), bundle, backend).write_text(content)
    with pytest.raises(MachineProfileError, match="has not been measured"):
        machine.load(bundle, backend)


def test_a_profile_of_integers_is_found_whatever_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with as many threads as there are, whether they were named or not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    row = machine.LevelTime(0, "encode", 0, (9,), (9.0,))
    found, bundle = MachineProfile("0" * 8, "auto", None, 64, (row,)), Bundle()
    for precision in (INT16, FLOAT32):
        machine.save(found, bundle, create_backend("auto", precision=precision))
    others = [create_backend("auto", default_threads() + 1)]
    if OpenVinoBackend.available():
        others.append(create_backend("auto", precision=FLOAT32))  # which it computes
    monkeypatch.setattr(OpenVinoBackend, "available", lambda: False)
    assert machine.load(bundle, create_backend("auto")) == found
    assert machine.load(bundle, create_backend("auto", default_threads())) == found
    for other in others:
        with pytest.raises(MachineProfileError, match="has not been measured"):
            machine.load(bundle, other)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users without a home are of POSIX systems")
def test_users_without_a_home_remember_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a number that names no user
    monkeypatch.chdir(tmp_path)
    remember("engines", ["a"], "first")
    assert remembered("engines", ["a"]) is None and not list(tmp_path.iterdir())
    with pytest.raises(FileError, match="cannot be written .*XDG_CACHE_HOME"):
        store(place_of("engines", ["a"]), b"")


def test_another_build_is_checked_again(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A golden check that was passed says nothing of other code, in C++ or in Python, nor does a profile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    backend = create_backend("onnxruntime", 1)
    machine.save(MachineProfile("0" * 8, "onnxruntime", 1, 64, ()), Bundle(tiny_path), backend)
    other = tmp_path / "other"
    for count, module in enumerate((None, native._native, native.entropy_graph, native.integer_net), 1):
        if module is not None:
            other.write_text(str(count))
            contents.cache_clear()
            monkeypatch.setattr(module, "__file__", str(other))
        Codec(tiny_path, backend).load(7)
        Codec(tiny_path, backend).load(7)
        assert len(list((tmp_path / "basic" / "golden").iterdir())) == count
    with pytest.raises(MachineProfileError, match="has not been measured"):
        machine.load(Bundle(tiny_path), backend)
