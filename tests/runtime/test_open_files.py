"""Pictures in memory and in files that are open."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from basic_runtime.errors import FileError, ImageError, LimitError
from basic_runtime.imageio import FORMATS, read_picture, write_picture
from basic_runtime.limits import Limits
from basic_runtime.picture import Picture

from .test_imageio import EXTENSION, GRAY, RGB, assert_equal, saved


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_a_picture_comes_from_memory(kind: Any) -> None:
    data = saved(Image.fromarray(RGB), "PNG")
    assert_equal(read_picture(kind(data)), RGB)
    with pytest.raises(ImageError, match="^the (picture|file object): not a picture of a known format"):
        read_picture(kind(b"no picture at all, but long enough"))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_goes_to_an_open_file_and_comes_from_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.data"
    with path.open("wb") as file:
        file.write(b"before")
        assert write_picture(file, Picture(RGB), kind) == []
        assert not file.closed
    with path.open("rb") as file:
        assert file.read(6) == b"before"  # it is read from where it stands
        back = read_picture(file)
        assert not file.closed
    write_picture(tmp_path / f"a.{EXTENSION[kind]}", RGB)
    assert_equal(back, read_picture(tmp_path / f"a.{EXTENSION[kind]}").pixels)


class Pipe(io.RawIOBase):
    """A file that can neither seek nor read back, and gives a few bytes at a time."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.data[: min(7, len(buffer))]
        del self.data[: len(part)]
        buffer[: len(part)] = part
        return len(part)

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)


def test_an_open_file_need_not_seek() -> None:
    pipe: Any = Pipe()
    write_picture(pipe, GRAY, "tiff")
    assert_equal(read_picture(pipe), GRAY)


class Late:
    """A file that does not wait, and has nothing to wait for."""

    def read(self, count: int) -> None:
        return None


@pytest.mark.skipif(not hasattr(os, "set_blocking"), reason="Windows has no pipes that do not wait")
def test_an_open_file_that_does_not_wait(tmp_path: Path) -> None:
    data = saved(Image.fromarray(RGB), "PNG")
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def feed() -> None:
        for part in (data[:9], data[9:]):
            time.sleep(0.2)
            os.write(writing, part)
        os.close(writing)

    thread = Thread(target=feed)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        assert_equal(read_picture(pipe), RGB)
    thread.join()
    with pytest.raises(FileError, match="^the file object: cannot be read .it has no bytes yet, nor a descriptor"):
        read_picture(Late())  # type: ignore[arg-type]


def test_an_open_file_that_will_not_do(tmp_path: Path) -> None:
    file = io.BytesIO()
    with pytest.raises(ValueError, match='^the file object: has no extension .*: name one, as in format="PNG"'):
        write_picture(file, RGB)
    with pytest.raises(ImageError, match="there is no output format 'bmp'"):
        write_picture(file, RGB, "bmp")
    with pytest.raises(ImageError, match="cannot be written as WEBP"):
        write_picture(file, np.zeros((1, 17_000, 3), np.uint8), "webp")
    assert file.getvalue() == b""
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(RGB), "PNG"))
    with (tmp_path / "a.png").open(encoding="latin-1") as text, pytest.raises(TypeError, match="in binary mode"):
        read_picture(text)
    with (tmp_path / "a.png").open(encoding="utf-8") as text, pytest.raises(TypeError, match="in binary mode"):
        read_picture(text)
    with (tmp_path / "a.png").open("rb") as small, pytest.raises(LimitError, match=r"a\.png: the file has .*100 are"):
        read_picture(small, Limits(max_file_bytes=100))
    with (tmp_path / "a.png").open("wb") as other, pytest.raises(FileError, match=r"a\.png: cannot be read"):
        read_picture(other)
    with (tmp_path / "a.png").open("rb") as other, pytest.raises(FileError, match=r"a\.png: cannot be written"):
        write_picture(other, RGB, "PNG")
    with (tmp_path / "b.png").open("w") as text, pytest.raises(TypeError, match=r"b\.png: is open in text mode"):
        write_picture(text, RGB, "PNG")  # type: ignore[arg-type]
    nothing: Any = None
    with pytest.raises(TypeError, match="a path, bytes or an open file are wanted, not NoneType"):
        read_picture(nothing)
    with pytest.raises(TypeError, match="a path or an open file is wanted, not ndarray"):
        write_picture(RGB, "a.png")
