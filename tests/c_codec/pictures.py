"""PNG and JPEG of many kinds, for `basic-encode`; as a program it writes them to a folder, for `make fuzz`."""

from __future__ import annotations

import io
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from c_commands import scene
from PIL import Image, PngImagePlugin

RGB = scene(41, 53)
ALPHA = scene(41, 53, 1)[:, :, 0]


def exif(turn: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = turn, "a camera"
    return tags.tobytes()


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    memory = io.BytesIO()
    image.save(memory, kind, **options)
    return memory.getvalue()


def with_text(xmp: str, packed: bool) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Software", "a program")
    texts.add_itxt("XML:com.adobe.xmp", xmp, zip=packed)
    return texts


PALETTE = Image.fromarray(RGB).quantize(17)
PICTURES = {
    "png-rgb": saved(RGB, "PNG"),
    "png-gray": saved(ALPHA, "PNG"),
    "png-rgba": saved(np.dstack([RGB, ALPHA]), "PNG"),
    "png-gray-alpha": saved(np.dstack([ALPHA, RGB[:, :, 0]]), "PNG"),
    "png-bits": saved(Image.fromarray(ALPHA > 99), "PNG"),
    "png-palette": saved(PALETTE, "PNG"),
    "png-palette-4-bits": saved(Image.fromarray(RGB).quantize(9), "PNG", bits=4),
    "png-palette-transparent": saved(PALETTE, "PNG", transparency=bytes(range(17))),
    "png-transparent-colour": saved(RGB, "PNG", transparency=tuple(int(v) for v in RGB[3, 4])),
    "png-transparent-gray": saved(ALPHA, "PNG", transparency=int(ALPHA[2, 2])),
    "png-deep-gray": saved(np.arange(41 * 53, dtype=np.uint16).reshape(41, 53) * 30, "PNG"),
    "png-metadata": saved(
        RGB, "PNG", exif=exif(), icc_profile=b"no profile at all" * 9, pnginfo=with_text("<x/>", False)
    ),
    "png-packed-text": saved(RGB, "PNG", pnginfo=with_text("<x>" + "far " * 999 + "</x>", True)),
    "jpeg-420": saved(RGB, "JPEG", quality=83),
    "jpeg-422": saved(RGB, "JPEG", subsampling="4:2:2"),
    "jpeg-444": saved(RGB, "JPEG", subsampling="4:4:4"),
    "jpeg-progressive": saved(RGB, "JPEG", progressive=True, quality=60),
    "jpeg-gray": saved(ALPHA, "JPEG"),
    "jpeg-rgb": saved(RGB, "JPEG", keep_rgb=True),
    "jpeg-metadata": saved(RGB, "JPEG", exif=exif(), icc_profile=bytes(range(256)) * 600, xmp=b"<x:xmpmeta/>"),
    "jpeg-one-pixel": saved(RGB[:1, :1], "JPEG"),
}


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def deep_png(channels: int, interlaced: bool) -> bytes:
    """A PNG of 16 bits per sample, or an interlaced one, of which Pillow writes neither."""
    height, width = 13, 11
    random = np.random.default_rng(channels)
    values = random.integers(0, 65_536, (height, width, channels)).astype(">u2")
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for left, top, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        for row in values[top::down, left::across]:
            rows += b"\0" + row.tobytes() if row.size else b""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, colour, 0, 0, int(interlaced)])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_all(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in PICTURES.items():
        (folder / name).write_bytes(data)
    for channels in (1, 2, 3, 4):
        (folder / f"png-deep-{channels}").write_bytes(deep_png(channels, interlaced=channels % 2 == 0))


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
