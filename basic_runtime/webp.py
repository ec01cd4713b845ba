"""Reads the size of a WebP picture from its header: libwebp allocates all of it when a file is opened.

Layouts are those of RFC 9649.
"""

from __future__ import annotations

_KIND, _CONTENT, _SIZES = 12, 20, 30
"""Where the first chunk says what it is, where its content starts, and where sizes have been told, in any of them."""


def canvas_size(data: bytes) -> tuple[int, int] | None:
    """Width and height; None for any other file, and for one that is too short or damaged to say."""
    if data[:4] != b"RIFF" or data[8:_KIND] != b"WEBP" or len(data) < _SIZES:
        return None
    kind, content = data[_KIND : _KIND + 4], data[_CONTENT:_SIZES]
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[4:7], "little"), 1 + int.from_bytes(content[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = (int.from_bytes(content[k : k + 2], "little") & 0x3FFF for k in (6, 8))
        return width, height
    return None
