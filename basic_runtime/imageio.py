"""Pictures in and out through Pillow (but PNG out: png.py): PNG, JPEG, WebP, TIFF and PPM, and in only AVIF, BMP, GIF,
PBM and, with pillow-heif, HEIC, as 8-bit RGB or gray with metadata.

Pixels are kept as they are stored, and EXIF with its orientation goes with them: a viewer turns the picture
as it would have turned the original. Only formats that cannot carry EXIF get pixels that are turned already.
(TIFF is turned when it is read: Pillow leaves no choice.)
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, UnidentifiedImageError, features

from basic_runtime import exif as exif_tools
from basic_runtime.deflate import Buffer
from basic_runtime.errors import ImageError, LimitError, MissingExtraError
from basic_runtime.files import (
    STREAM,
    StrPath,
    check_binary,
    display_name,
    file_name,
    read_bytes,
    read_file,
    write_file,
    write_to,
)
from basic_runtime.limits import DEFAULT_LIMITS, Limits
from basic_runtime.picture import EXIF_PREFIX, Picture, Pixels, as_picture
from basic_runtime.png import write_png
from basic_runtime.threads import ProcessLock, checked_threads, default_threads
from basic_runtime.webp import canvas_size

EXTENSIONS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
}
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "PPM")
_FORMATS_TEXT = "PNG, JPEG, WebP, TIFF, PPM"

KNOWN_EXTENSIONS = EXTENSIONS | {
    ".pbm": "PPM",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
}
"""With those of pictures that are only read."""

_UNNAMED = "the picture"
"""What messages call bytes, and the first words of many."""

_STRIP_ROWS = 256
"""Rows of a picture that are copied at a time."""

_TILE_WIDTH, _TILE_LENGTH = 322, 323
_JPEG_SEGMENT = 65_502
_AGAIN = "get the file again"
_HEIF = ("HEIF",)
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"))
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@cache
def input_extensions() -> dict[str, str]:
    """Extensions of the pictures that are read here, and their formats."""
    missing = {kind for kind, there in (("AVIF", has_avif()), ("HEIF", _has_heif())) if not there}
    return {end: kind for end, kind in KNOWN_EXTENSIONS.items() if kind not in missing}


def has_avif() -> bool:
    """Whether this Pillow reads and writes AVIF, of which old ones have not even the name."""
    return "avif" in features.modules and bool(features.check("avif"))


def _has_heif() -> bool:
    return find_spec("pillow_heif") is not None


def read_picture(source: StrPath | Buffer | BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Reads a picture from a path, from bytes (a bytearray, a memoryview), from a file that is open in binary mode, or
    from standard input for ``-``.

    A file is read from where it stands to its end, and stays open. Raises `FileError` (path), `ImageError` (content),
    `LimitError`, or TypeError for a source of another type; size limits are checked before any pixel is decoded.
    16-bit, CMYK and animated pictures are converted, and `Picture.notices` says so.
    """
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be Limits(...), not {type(limits).__name__}")
    if isinstance(source, str | os.PathLike):
        name, data = display_name(source), read_bytes(source, limits)
    elif isinstance(source, bytes | bytearray | memoryview):
        name, data = _UNNAMED, bytes(source)
    else:
        name, data = file_name(source), read_file(source, limits)
    try:
        with _pillow_guard(limits):
            return _decode(data, limits)
    except (ImageError, LimitError) as error:
        if name == _UNNAMED and str(error).startswith(name):
            raise
        raise error.in_file(name) from error.__cause__


def write_picture(
    target: StrPath | BinaryIO,
    picture: Picture | Pixels,
    format: str | None = None,
    *,
    overwrite: bool = False,
    threads: int | None = None,
) -> list[str]:
    """Writes a picture, or its pixels alone as uint8 (H, W, 3) or (H, W), to a path, to standard output for ``-`` (as
    PNG unless `format` says otherwise), or to a file that is open in binary mode, which needs a `format`.

    The format is that of `format` or of the file's extension. JPEG is written at quality 95 without colour
    subsampling, the others losslessly. Returns notices on what the format could not carry. Raises `FileError`
    or `ImageError`, TypeError or ValueError for wrong arguments; the file of a path appears whole or not at all, and
    replaces another only if `overwrite`. `threads` compress a PNG, by default as many as there are cores, at most 8.
    """
    threads = checked_threads(threads) or default_threads()
    if not isinstance(target, str | os.PathLike):
        return _write_to(target, picture, format, threads)
    name = display_name(target, output=True)
    kind = output_format(target, format)
    picture = as_picture(picture)
    if kind == "PPM" and Path(target).suffix.lower() == ".pgm" and not picture.gray:
        raise ImageError(f"{name}: a .pgm file is gray, and the picture has colours: name it .ppm")
    try:
        return write_file(target, lambda file: _save(picture, kind, file, threads), overwrite=overwrite)
    except ImageError as error:
        raise error.in_file(name) from error.__cause__


def _write_to(file: BinaryIO, picture: Picture | Pixels, format: str | None, threads: int) -> list[str]:
    if not hasattr(file, "write"):
        raise TypeError(f"a path or an open file is wanted, not {type(file).__name__}")
    check_binary(file)
    name = file_name(file)
    if format is None:
        raise ValueError(f'{name}: has no extension that tells a format: name one, as in format="PNG"')
    content, kind = as_picture(picture), _named_format(format, name)
    try:
        return write_to(file, lambda memory: _save(content, kind, memory, threads))
    except ImageError as error:
        raise error.in_file(name) from error.__cause__


def output_format(target: StrPath, format: str | None = None) -> str:
    """The one of `FORMATS` that `format` (name or extension) means, or else the extension of `target`."""
    name = display_name(target, output=True)
    if format is not None:
        return _named_format(format, name)
    if os.fspath(target) == STREAM:
        return "PNG"
    suffix = Path(target).suffix.lower()
    if suffix not in EXTENSIONS:
        raise ImageError(
            f"{name}: the extension {suffix or '(none)'} names no picture format that is written: "
            f"use one of {' '.join(EXTENSIONS)}, or name the format"
        )
    return EXTENSIONS[suffix]


def _named_format(format: str, name: str) -> str:
    if not isinstance(format, str):
        raise TypeError(f'{name}: a format is a name like "PNG", not {type(format).__name__}')
    if format.upper() in FORMATS:
        return format.upper()
    suffix = "." + format.lower().removeprefix(".")
    if suffix not in EXTENSIONS:
        raise ImageError(f"{name}: there is no output format {format!r}: choose one of {_FORMATS_TEXT}")
    return EXTENSIONS[suffix]


def _save(picture: Picture, kind: str, file: BinaryIO, threads: int) -> list[str]:
    notices: list[str] = []
    if kind == "PNG":
        xmp = _text_of(picture.xmp, notices) if picture.xmp else None
        if not _suits(picture.icc, picture.gray):
            picture = replace(picture, icc=None)
            notices.append("the colour profile is not one for such pixels, which PNG wants: it was left out")
        write_png(file, picture, xmp, threads)
        return notices
    image, options = _WRITERS[kind](picture, notices)
    try:
        image.save(file, kind, **options)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not Pillow's own
            raise
        raise ImageError(f"cannot be written as {kind} ({error}): try PNG") from error
    return notices


# --- reading ---------------------------------------------------------------------------------------------


def _decode(data: bytes, limits: Limits) -> Picture:
    if not data:
        raise ImageError(f"the file is empty: {_AGAIN}")
    if size := canvas_size(data):
        limits.check_size(*size)
    formats = _formats(data)
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        if formats == _HEIF:
            raise ImageError(f"the picture is damaged: {_AGAIN}") from None
        raise ImageError(f"not a picture of a known format: convert it to {_FORMATS_TEXT}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\((\d+ pixels)\)", str(error))
        raise LimitError(
            f"the picture has {pixels[1] if pixels else 'more pixels'}, and {limits.max_pixels} in all are allowed: "
            "allow more with --max-pixels (from Python: Limits(max_pixels=...)) if you trust the file"
        ) from None
    except Exception as error:
        raise ImageError(f"the picture is damaged ({error}): {_AGAIN}") from error
    _check_sizes(image, limits)
    notices: list[str] = []
    raw_mode = _raw_mode(image)
    try:
        several = getattr(image, "is_animated", False)  # counting them would take time for each
        image.load()
    except Exception as error:
        raise ImageError(f"the picture is damaged ({error}): {_AGAIN}") from error
    if several:
        notices.append("holds more than one picture: only the first is used")
    if (depth := image.info.get("bit_depth", 8)) != 8:  # of HEIC, which pillow-heif reduces
        notices.append(f"{depth} bits per sample were reduced to 8")
    return picture_of(image, limits, raw_mode, notices)


def _formats(data: bytes) -> tuple[str, ...]:
    """The formats that these bytes may have. Raises ImageError for one whose package is not installed."""
    if not _is_heif(data):
        return tuple(dict.fromkeys(kind for kind in input_extensions().values() if kind != "HEIF"))
    if not _has_heif():
        raise ImageError(f"{MissingExtraError.of('reading HEIC', 'heic')}, or convert it to {_FORMATS_TEXT}")
    import pillow_heif  # not at the top: it takes as long as a small picture

    pillow_heif.register_heif_opener()
    return _HEIF


def _is_heif(data: bytes) -> bool:
    """Whether these bytes begin as HEIF with HEVC (ISO/IEC 23008-12, annex B), such as phones write, not as AVIF."""
    length = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[at : at + 4] for at in (8, *range(16, length, 4))}
    return data[4:8] == b"ftyp" and bool(brands & _HEIF_BRANDS) and b"avif" not in brands


def picture_of(
    image: Image.Image, limits: Limits = DEFAULT_LIMITS, raw_mode: str = "", notices: list[str] | None = None
) -> Picture:
    """A picture of Pillow's as one of ours, with its metadata; it must be loaded. `raw_mode`: how samples lay in its
    file, if that is known; `notices` are added to. Raises ImageError for kinds of pixels that no file here holds."""
    notices = [] if notices is None else notices
    pixels, alpha = _convert(image, raw_mode, notices)
    icc, exif, xmp = _metadata(image, limits, notices)
    return Picture(pixels, alpha, icc, exif, xmp, notices)


def _check_sizes(image: Image.Image, limits: Limits) -> None:
    """Checks all that Pillow will allocate for: the picture, and the tiles of a TIFF, which may be larger."""
    limits.check_size(*image.size)
    tags = getattr(image, "tag_v2", {})
    if _TILE_WIDTH in tags and _TILE_LENGTH in tags:
        width, height = tags[_TILE_WIDTH], tags[_TILE_LENGTH]
        if not (isinstance(width, int) and isinstance(height, int)):
            raise ImageError(f"the picture is damaged (its tiles are {width} x {height}): {_AGAIN}")
        limits.check_size(width, height)


def _raw_mode(image: Image.Image) -> str:
    """How samples lie in the file, as Pillow names it, such as "RGB;16B"; "" if it does not say."""
    for tile in getattr(image, "tile", []):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if isinstance(arguments[0], str):
            deep = isinstance(arguments[-1], int) and tile[0].startswith("ppm") and arguments[-1] > 255
            return f"{arguments[0]};16" if deep and ";16" not in arguments[0] else arguments[0]
    return ""


def _convert(image: Image.Image, raw_mode: str, notices: list[str]) -> tuple[Pixels, Pixels | None]:
    """8-bit pixels, (H, W) or (H, W, 3), and alpha of a loaded picture of any mode."""
    mode = image.mode
    if mode in _SIXTEEN_BITS:
        return _reduce_depth(image, raw_mode, notices), None
    if ";16" in raw_mode:
        notices.append("16 bits per sample were reduced to 8")
    if mode == "CMYK":
        image = _from_inks(image, notices)
    elif mode in ("F", "LAB", "HSV"):
        raise ImageError(f"pixels of kind {mode} are not supported: convert it to 8-bit RGB first")
    elif image.has_transparency_data or mode in ("RGBa", "La"):
        image = _in_mode(image, "LA" if mode in ("1", "L", "LA", "La") else "RGBA")
    else:
        image = _in_mode(image, "L" if mode in ("1", "L") else "RGB")
    return _samples(image, gray=image.mode in ("L", "LA") or raw_mode.startswith("LA"))


def _from_inks(image: Image.Image, notices: list[str]) -> Image.Image:
    """CMYK as RGB: in sRGB where the profile of the inks is there, and Pillow's LittleCMS."""
    profile, without = image.info.get("icc_profile"), "a colour profile"
    if not isinstance(profile, bytes):  # a TIFF may give it any type
        profile = None
    if profile and features.check("littlecms2"):
        from PIL import ImageCms

        try:
            inks, screen = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, inks, screen, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):  # damaged, or for other colours
            without = "its colour profile, which does not fit"
        else:
            assert converted is not None  # as it is not converted in place
            notices.append("CMYK was converted to sRGB by its colour profile")
            return converted
    elif profile:
        without = "its colour profile, for want of LittleCMS"
    notices.append(f"CMYK was converted to RGB without {without}: colours are approximate")
    return image.convert("RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # which copies a picture of that mode


def _samples(image: Image.Image, gray: bool) -> tuple[Pixels, Pixels | None]:
    """Pixels and alpha of a picture in L, LA, RGB or RGBA, copied strip by strip: Pillow's own way to arrays takes the
    memory of three more pictures."""
    size = image.height, image.width
    pixels: Pixels = np.empty(size if gray else (*size, 3), np.uint8)
    alpha: Pixels | None = np.empty(size, np.uint8) if image.mode in ("LA", "RGBA") else None
    for rows, strip in _strips(image):
        colour = strip if strip.ndim == 2 else strip[:, :, 0] if gray else strip[:, :, :3]
        pixels[rows] = colour
        if alpha is not None:
            alpha[rows] = strip[:, :, -1]
    return pixels, alpha


def _strips(image: Image.Image) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    for top in range(0, image.height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, image.height)
        yield slice(top, bottom), np.asarray(image.crop((0, top, image.width, bottom)))


def _reduce_depth(image: Image.Image, raw_mode: str, notices: list[str]) -> Pixels:
    full = 4095 if ";12" in raw_mode else 65_535
    signed = ";32" in raw_mode or raw_mode.endswith("S")
    reduced: Pixels = np.empty((image.height, image.width), np.uint8)
    for rows, strip in _strips(image):
        if signed or strip.min() < 0 or strip.max() > full:
            raise ImageError("signed or 32-bit samples are not supported: convert it to 8 or 16 bits first")
        reduced[rows] = (strip.astype(np.uint32) * 255 + full // 2) // full
    if image.has_transparency_data:
        notices.append("the transparent colour of a 16-bit picture was ignored")
    notices.append(f"{full.bit_length()} bits per sample were reduced to 8")
    return reduced


def _metadata(
    image: Image.Image, limits: Limits, notices: list[str]
) -> tuple[bytes | None, bytes | None, bytes | None]:
    """ICC, EXIF and XMP of a loaded picture."""
    icc = image.info.get("icc_profile")
    xmp = image.info.get("xmp")
    exif = image.info.get("exif")
    try:
        if image.format == "TIFF":
            tags = exif_tools.photo_tags(image.getexif())
            exif = tags.tobytes() if len(tags) else None
        elif not exif and "Raw profile type exif" in image.info:
            exif = image.getexif().tobytes()
    except Exception as error:  # Pillow raises anything on damaged EXIF
        notices.append(f"damaged EXIF was left out ({error})")
        exif = None
    if image.mode == "CMYK":
        icc = None
    icc, exif, xmp = (
        _as_bytes(kind, value, limits, notices) for kind, value in (("ICC", icc), ("EXIF", exif), ("XMP", xmp))
    )
    return icc or None, exif or None, xmp or None


def _as_bytes(kind: str, value: object, limits: Limits, notices: list[str]) -> bytes:
    """Metadata as Pillow has it, in whatever type the file's tag has, as bytes; b"" where it is left out."""
    value = value.encode() if isinstance(value, str) else b"" if value is None else value
    if not isinstance(value, bytes):
        notices.append(f"damaged {kind} was left out (it is no text)")
        return b""
    if len(value) > limits.max_metadata_bytes:
        notices.append(f"{kind} of {len(value)} bytes was left out: it exceeds max_metadata_bytes")
        return b""
    return value


class _PillowGuard:
    """While pictures are read, Pillow's own bounds on pixels, and on colour profiles and text in PNG, are no lower than
    the limits of those who read.

    They are those of the whole process, so they are raised no further than that, and come back when the last of several
    threads is done, or in a fork, which has none of them.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._readers = 0
        self._before: tuple[int | None, int] = None, 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._end)

    @contextmanager
    def __call__(self, limits: Limits) -> Iterator[None]:
        with self._lock:
            if not self._readers:
                self._before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
            self._readers += 1
            if Image.MAX_IMAGE_PIXELS is not None:
                Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limits.max_pixels)
            PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, limits.max_metadata_bytes)
        try:
            yield
        finally:
            with self._lock:
                if self._readers == 1:
                    self._restore()
                self._readers = max(0, self._readers - 1)  # a fork may have ended it

    def _restore(self) -> None:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = self._before

    def _end(self) -> None:
        """Nobody reads any longer: the threads that did are the parent's."""
        if self._readers:
            self._restore()
            self._readers = 0


_pillow_guard = _PillowGuard()


# --- writing ---------------------------------------------------------------------------------------------


def image_of(picture: Picture) -> Image.Image:
    """The pixels and alpha of a picture as one of Pillow's, in mode L, LA, RGB or RGBA."""
    image = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def _opaque(picture: Picture, kind: str, notices: list[str]) -> Pixels:
    """Pixels for a format without alpha: over white, as a page would show them."""
    if picture.alpha is None:
        return picture.pixels
    notices.append(f"{kind} has no transparency: the picture was put on white")
    alpha = picture.alpha.astype(np.uint16)
    if not picture.gray:
        alpha = alpha[:, :, np.newaxis]
    return ((picture.pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _suits(icc: bytes | None, gray: bool) -> bool:
    """Whether a profile is not known to be for other pixels, by the colour space that it states (ICC.1:2022, 7.2.8)."""
    return icc is None or icc[16:20] != (b"RGB " if gray else b"GRAY")


def _text_of(xmp: bytes, notices: list[str]) -> str:
    """XMP for PNG, which has it in UTF-8 alone."""
    wide = xmp.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return xmp.decode("utf-16" if wide else "utf-8")
    except UnicodeDecodeError:
        notices.append("XMP that is no UTF-8 was changed to be some, as PNG wants it")
        return xmp.decode("utf-8", "replace")


def _for_jpeg(picture: Picture, notices: list[str]) -> tuple[Image.Image, dict[str, Any]]:
    options = _common_options(picture) | {"quality": 95, "subsampling": "4:4:4"}
    if picture.xmp:
        options["xmp"] = picture.xmp
    for kind in ("exif", "xmp"):
        if len(options.get(kind, b"")) > _JPEG_SEGMENT:
            notices.append(f"JPEG holds at most 64 KB of {kind.upper()}: it was left out")
            del options[kind]
    return Image.fromarray(_opaque(picture, "JPEG", notices)), options


def _for_webp(picture: Picture, notices: list[str]) -> tuple[Image.Image, dict[str, Any]]:
    options = _common_options(picture) | {"lossless": True, "exact": True}
    if picture.xmp:
        options["xmp"] = picture.xmp
    if picture.gray and not _suits(picture.icc, gray=False):
        notices.append("WebP stores gray as RGB: the gray colour profile was left out")
        del options["icc_profile"]
    return image_of(picture), options


def _for_tiff(picture: Picture, notices: list[str]) -> tuple[Image.Image, dict[str, Any]]:
    options = _common_options(picture)
    try:
        options["exif"] = exif_tools.parse_for_tiff(picture.exif or b"", picture.xmp)
    except Exception:  # Pillow raises anything on damaged EXIF
        notices.append("damaged EXIF was left out")
        options["exif"] = exif_tools.parse_for_tiff(b"", picture.xmp)
    if not exif_tools.has_directories(options["exif"]):  # which Pillow writes in uncompressed files only
        options["compression"] = "tiff_adobe_deflate"
    return image_of(picture), options


def _for_ppm(picture: Picture, notices: list[str]) -> tuple[Image.Image, dict[str, Any]]:
    turn = exif_tools.orientation(picture.exif)
    pixels = exif_tools.upright(_opaque(picture, "PPM", notices), turn)
    left_out = [kind for kind in ("ICC", "EXIF", "XMP") if getattr(picture, kind.lower())]
    if left_out:
        notices.append(f"PPM holds no metadata: {', '.join(left_out)} was left out")
    if turn != exif_tools.UPRIGHT:
        notices.append("the picture was turned upright, as its EXIF asks")
    return Image.fromarray(pixels), {}


def _common_options(picture: Picture) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if picture.icc:
        options["icc_profile"] = picture.icc
    if picture.exif:
        options["exif"] = EXIF_PREFIX + picture.exif
    return options


_WRITERS: dict[str, Callable[[Picture, list[str]], tuple[Image.Image, dict[str, Any]]]] = {
    "JPEG": _for_jpeg,
    "WEBP": _for_webp,
    "TIFF": _for_tiff,
    "PPM": _for_ppm,
}
