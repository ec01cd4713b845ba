"""One picture at a time, in worker processes: headers, hashes, and the PNG for the training set."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from basic_runtime.errors import BasicError, ImageError
from basic_runtime.files import read_bytes
from basic_runtime.imageio import EXTENSIONS, FORMATS, read_picture, write_picture
from basic_runtime.picture import Picture
from basic_train.prepare.procedure import Procedure, Size

#: Of formats that the runtime writes, and BMP.
SUFFIXES = frozenset(EXTENSIONS) | {".bmp"}

JPEG_START = b"\xff\xd8"

#: Rows and comparisons per row of a difference hash: 256 bits.
HASH_SIDE = 16

#: OpenCV's cubic kernel; Pillow's and most others' has -0.5.
CUBIC_A = -0.75


@dataclass(frozen=True)
class Source:
    """A picture file by its header. name: path below the source folder; stamp: changes with the file; alpha: whether it
    may be transparent."""

    name: str
    width: int
    height: int
    lossy: bool
    stamp: str
    alpha: bool

    @property
    def pixels(self) -> int:
        return self.width * self.height


def read_header(root: Path, name: str) -> Source | str:
    """The source, or why it cannot be read; pixels are not decoded."""
    path = root / name
    try:
        status = os.stat(path)
        with open(path, "rb") as file:
            start = file.read(16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the reader has limits of its own
            with Image.open(path, formats=(*FORMATS, "BMP")) as image:
                lossy = _is_lossy(image, start)
                stamp = f"{status.st_size}-{status.st_mtime_ns}"
                return Source(name, *image.size, lossy, stamp, image.has_transparency_data)
    except Exception as error:  # Pillow raises anything on damaged headers
        return f"{path}: not a readable picture ({' '.join(str(error).split())})"


def _is_lossy(image: Image.Image, start: bytes) -> bool:
    if image.format == "WEBP":
        return start[12:16] != b"VP8L"  # with metadata (VP8X) either is possible: the careful guess
    return start.startswith(JPEG_START) or image.info.get("compression") == "jpeg"


@dataclass(frozen=True)
class Hashes:
    """sha256: of the file; difference: of the picture, hexadecimal."""

    sha256: str
    difference: str


def read_hashes(root: Path, name: str, skip_transparent: bool = False) -> Hashes | str:
    """Hashes of a source, or why it cannot be read or is left out."""
    path = root / name
    try:
        data = _read(path)
        return Hashes(hashlib.sha256(data).hexdigest(), difference_hash(_preview(path, data, skip_transparent)))
    except ImageError as error:
        return str(error)


def transparency(root: Path, name: str) -> str | None:
    """Why a source is left out as transparent, or cannot be read; None for a photo."""
    path = root / name
    try:
        _require_opaque(path, _decode(path, _read(path)))
    except ImageError as error:
        return str(error)
    return None


def _require_opaque(path: Path, picture: Picture) -> None:
    if picture.alpha is not None and picture.alpha.min() < 255:
        raise ImageError(f"{path}: is transparent in parts, so no photo")


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except BasicError as error:
        raise ImageError(str(error)) from error


def _preview(path: Path, data: bytes, skip_transparent: bool) -> Image.Image:
    """The picture, JPEGs at a small scale: not the smallest, whose pixels lie beside those of other sizes."""
    if not data.startswith(JPEG_START):
        picture = _decode(path, data)
        if skip_transparent:
            _require_opaque(path, picture)
        return Image.fromarray(picture.pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        image.draft("L", (16 * HASH_SIDE, 16 * HASH_SIDE))
        image.load()
    except Exception as error:  # Pillow raises anything on damaged data
        raise ImageError(f"{path}: the picture is damaged ({error})") from error
    return image


def difference_hash(image: Image.Image) -> str:
    """256 bits: is each cell of a 17x16 gray miniature brighter than its left neighbour? 64 hexadecimal digits.

    Unchanged by size, compression and brightness but for a few bits (N. Krawetz, "Kind of like that", 2013).
    """
    gray = image.convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    cells = np.asarray(gray, np.int16)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes().hex()


@dataclass(frozen=True)
class Written:
    """A picture of the training set: its sides, and the SHA-256 of its source file."""

    width: int
    height: int
    sha256: str


def convert(root: Path, source: Source, target: Path, size: Size, procedure: Procedure) -> Written | str:
    """Write the PNG of a source to `target`, or say why not. Raises FileError where it cannot be written."""
    path = root / source.name
    try:
        data = _read(path)
        picture = _decode(path, data)
        if (picture.width, picture.height) != (source.width, source.height):
            size = _turned(source, picture, size)
        if procedure.skip_transparent:
            _require_opaque(path, picture)
        pixels = picture.rgb
        if size.factor != 1:
            shrink = cubic_resize if procedure.halve_above is not None else _lanczos
            pixels = shrink(pixels, size.width, size.height)
        write_picture(target, Picture(pixels), "PNG", overwrite=True)
        return Written(size.width, size.height, hashlib.sha256(data).hexdigest())
    except ImageError as error:
        return str(error)


def _decode(path: Path, data: bytes) -> Picture:
    try:
        return read_picture(data)
    except BasicError as error:
        raise ImageError(f"{path}: {error}") from error
    except Exception as error:  # Pillow raises anything on damaged data
        raise ImageError(f"{path}: the picture is damaged ({error})") from error


def _turned(source: Source, picture: Picture, size: Size) -> Size:
    """The size for a TIFF that its orientation turned by a quarter when it was read."""
    if (picture.height, picture.width) != (source.width, source.height):
        raise ImageError(f"{source.name}: has another size than its header says")
    return Size(size.height, size.width, size.factor)


def _lanczos(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def cubic_resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """OpenCV's INTER_CUBIC, which the original used: four taps however much a picture shrinks, edges repeated.

    uint8 (H, W, C) to uint8 (height, width, C). Equal to OpenCV but for its 11-bit weights: now and then a
    value differs by 1.
    """
    rows = _cubic_axis(pixels.astype(np.float32), height)
    columns = _cubic_axis(np.swapaxes(rows, 0, 1), width)
    return np.swapaxes(np.clip(np.rint(columns), 0, 255).astype(np.uint8), 0, 1)


def _cubic_axis(values: np.ndarray, count: int) -> np.ndarray:
    """Resample the first axis to `count` positions."""
    centres = (np.arange(count) + 0.5) * (values.shape[0] / count) - 0.5
    left = np.floor(centres).astype(np.int64) - 1
    out = np.zeros((count, *values.shape[1:]), np.float32)
    for tap in range(4):
        weight = _cubic(np.abs(centres - (left + tap))).astype(np.float32)
        out += weight[:, None, None] * values[np.clip(left + tap, 0, values.shape[0] - 1)]
    return out


def _cubic(distance: np.ndarray) -> np.ndarray:
    """The kernel of R. Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    a, d = CUBIC_A, distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
