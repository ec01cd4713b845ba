"""Writes PNG files (PNG specification, third edition) of 8-bit pictures.

Reading is Pillow's. Writing through it took longer than all of a decode at level 0 (docs/performance.md).
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

from basic_runtime._native import PngPixels
from basic_runtime.picture import Picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Of gray, gray with alpha, RGB, RGB with alpha, by their channels."""


def write_png(file: BinaryIO, picture: Picture, xmp: str | None, threads: int) -> None:
    """Writes a picture with its ICC profile and EXIF, and with `xmp` as text. `threads` compress it."""
    samples = np.ascontiguousarray(picture.pixels)
    if picture.alpha is not None:
        samples = np.dstack([samples, picture.alpha])
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    file.write(_SIGNATURE)
    _write_chunk(
        file, b"IHDR", struct.pack(">2I5B", picture.width, picture.height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    )
    if picture.icc:
        _write_chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc))
    if picture.exif:
        _write_chunk(file, b"eXIf", picture.exif)
    if xmp:  # neither compressed nor in a language
        _write_chunk(file, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp.encode())
    for part in PngPixels(samples, threads):
        _write_chunk(file, b"IDAT", part)
    _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind)
    file.write(content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
