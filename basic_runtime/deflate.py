"""zlib streams of a known size, safe against decompression bombs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from basic_runtime.errors import FormatError

Buffer = bytes | bytearray | memoryview


def deflate(parts: Iterable[Buffer]) -> bytes:
    """One zlib stream (RFC 1950) of all `parts`, at the strongest setting."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(part) for part in parts), packer.flush()])


def inflate(stream: Buffer, size: int, what: str) -> bytes:
    """The `size` bytes that `stream` holds; never allocates more than about that.

    Raises `FormatError`, with `what` named in it, unless the stream holds exactly `size` bytes and ends where
    `stream` ends.
    """
    unpacker = zlib.decompressobj()
    try:
        # One byte more than expected: that detects a longer stream, and lets an exact one reach its checksum.
        data = unpacker.decompress(stream, size + 1)
    except zlib.error as error:
        raise FormatError(f"{what} is damaged ({error}): get the file again") from error
    if len(data) != size or not unpacker.eof or unpacker.unused_data:
        raise FormatError(f"{what} does not hold the {size} bytes it should: get the file again")
    return data
