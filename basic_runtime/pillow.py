"""Lets Pillow read and write compressed files, as it does JPEG.

>>> from basic_runtime import pillow
>>> pillow.register()
>>> Image.open("photo.jpg").save("photo.basic", quality=60)
>>> Image.open("photo.basic").show()
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from PIL import Image, ImageFile

from basic_runtime import container
from basic_runtime.codec import DEFAULT_QUALITY, Codec
from basic_runtime.definitions import EXTENSION
from basic_runtime.errors import BasicError
from basic_runtime.files import file_name, read_file, write_whole
from basic_runtime.imageio import image_of, picture_of
from basic_runtime.picture import EXIF_PREFIX, Picture
from basic_runtime.threads import ProcessLock

FORMAT = "BASIC"
MIME_TYPE = "image/x-basic"

_AIMS = ("quality", "max_bytes", "min_psnr")


class _Registered:
    """The codec that Pillow's calls go to, and the level at which it decodes."""

    codec: Codec | None = None
    level: int | None = None
    bundled: Codec | None = None


_lock = ProcessLock()


def register(codec: Codec | None = None, level: int | None = None) -> None:
    """From now on `Image.open` and `Image.save` know files that end in ".basic", whose MIME type is "image/x-basic".

    codec: what encodes and decodes, the bundled model by default, loaded when it is first needed. level: 0 .. 7 for
    decoding, instead of what each file suggests.

    `save` takes one of quality, max_bytes and min_psnr, and level and effort, as `Codec` does; options of other formats
    are ignored, as Pillow's formats do. ICC profile, EXIF and XMP are those of the picture's `info`, unless it is given
    icc_profile, exif or xmp (b"" for none). What is converted or left out is a warning. Files that cannot be opened or
    decoded raise OSError, as Pillow's do, with the codec's error as its cause; `save` raises what `Codec` does.

    Where `save` replaces a file, Pillow empties that before it calls anybody: after an error, such as a target that is
    not met, it is empty. To keep it, save to an `io.BytesIO` first, or write what `Codec.encode_within` returns.
    """
    if not isinstance(codec, Codec | None):
        raise TypeError(f"codec must be a Codec or None, not {type(codec).__name__}")
    if level is not None:
        (codec or _bundled()).bundle.level(level)  # raises ValueError
    _Registered.codec, _Registered.level = codec, level
    Image.register_open(FORMAT, BasicImageFile, _is_ours)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, EXTENSION)
    Image.register_mime(FORMAT, MIME_TYPE)


def _is_ours(prefix: bytes) -> bool:
    return prefix.startswith(container.SIGNATURE[:4])  # what follows tells how it was damaged


def _codec() -> Codec:
    return _Registered.codec or _bundled()


def _bundled() -> Codec:
    """One for all threads that ask at once."""
    with _lock:
        _Registered.bundled = _Registered.bundled or Codec()
        return _Registered.bundled


class BasicImageFile(ImageFile.ImageFile):
    """A compressed file that is decoded when its pixels are first read."""

    format = FORMAT
    format_description = "BaSIC learned image codec"
    _data: bytes | None = None  # until it is decoded

    def _open(self) -> None:
        assert self.fp is not None
        self._codec, self._level = _codec(), _Registered.level
        limits = self._codec.limits
        with self._errors():
            data = read_file(self.fp, limits)
            header, chunks = container.parse(data, limits)
            icc, exif, xmp = container.unpack_metadata(chunks, limits)
        self._data = data
        self._size = header.width, header.height
        transparent = any(chunk.type == container.ALPHA for chunk in chunks)
        self._mode = ("L" if header.gray else "RGB") + ("A" if transparent else "")
        metadata = {"icc_profile": icc, "exif": exif and EXIF_PREFIX + exif, "xmp": xmp}
        self.info |= {name: value for name, value in metadata.items() if value}

    def load(self) -> Any:
        """Decode, once."""
        if self._data is not None:
            with self._errors():
                picture = self._codec.decode_picture(self._data, level=self._level)
            image = image_of(picture)
            self.im = image.im.copy() if image.readonly else image.im  # else it is NumPy's memory
            self._data, self.readonly = None, 0
            if self._exclusive_fp:
                self._close_fp()
            self.fp = None
        return super().load()

    def close(self) -> None:
        self._data = None
        super().close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BasicError as error:
            name = os.fspath(self.filename) if self.filename else "the picture"
            name = name.decode(errors="replace") if isinstance(name, bytes) else name
            raise OSError(error.named_line(name, file_name(self.fp))) from error


def _save(image: Image.Image, file: IO[bytes], name: str | bytes) -> None:
    options: dict[str, Any] = image.encoderinfo
    codec = _codec()
    given = {key: options[key] for key in _AIMS if key in options}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other")
    image.load()
    picture = picture_of(image, codec.limits)
    _replace_metadata(picture, options)
    for notice in picture.notices:
        warnings.warn(notice, stacklevel=3)  # where save() was called
    more = {key: options[key] for key in ("level", "effort") if key in options}
    if "max_bytes" in given:
        data = codec.encode_within(picture, given["max_bytes"], **more)
    elif "min_psnr" in given:
        data = codec.encode_reaching(picture, given["min_psnr"], **more)
    else:
        data = codec.encode(picture, quality=given.get("quality", DEFAULT_QUALITY), **more)
    write_whole(file, data)


def _replace_metadata(picture: Picture, options: dict[str, Any]) -> None:
    def given(name: str) -> bytes | None:
        value = options[name]
        if isinstance(value, Image.Exif):
            value = value.tobytes()
        if not isinstance(value, bytes | None):
            raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
        return value or None

    if "icc_profile" in options:
        picture.icc = given("icc_profile")
    if "xmp" in options:
        picture.xmp = given("xmp")
    if "exif" in options:
        picture.exif = given("exif")
