"""Lets Pillow read and write compressed files, as it does JPEG.

>>> from basic_runtime import pillow
>>> pillow.register()
>>> Image.open("photo.jpg").save("photo.basic", quality=60)
>>> Image.open("photo.basic").show()
"""

from __future__ import annotations

from functools import cache
from typing import IO, Any

from PIL import Image, ImageFile

from basic_runtime import container
from basic_runtime.codec import DEFAULT_QUALITY, Codec
from basic_runtime.exif import PREFIX
from basic_runtime.imageio import image_of, picture_of

FORMAT = "BASIC"

_OPTIONS = {"quality", "level", "effort", "max_bytes", "exif", "icc_profile", "xmp"}


class _Registered:
    """The codec that Pillow's calls go to, and the level at which it decodes."""

    codec: Codec | None = None
    level: int | None = None


def register(codec: Codec | None = None, level: int | None = None) -> None:
    """From now on `Image.open` and `Image.save` know files that end in ".basic".

    codec: what encodes and decodes, the bundled model by default, loaded when it is first needed. level: 0 .. 7 for
    decoding, instead of what each file suggests. `save` takes quality, level and effort as `Codec.encode` does, or
    max_bytes as `Codec.encode_within`; ICC profile, EXIF and XMP are those of the picture's `info`, unless it is given
    icc_profile, exif or xmp (b"" for none). Errors are those of `Codec`.
    """
    _Registered.codec, _Registered.level = codec, level
    Image.register_open(FORMAT, BasicImageFile, _is_ours)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, container.EXTENSION)


def _is_ours(prefix: bytes) -> bool:
    return prefix.startswith(container.SIGNATURE[:4])  # what follows tells how it was damaged


def _codec() -> Codec:
    return _Registered.codec or _bundled()


@cache
def _bundled() -> Codec:
    return Codec()


class BasicImageFile(ImageFile.ImageFile):
    """A compressed file that is decoded when somebody asks for its pixels."""

    format = FORMAT
    format_description = "BaSIC learned image codec"

    def _open(self) -> None:
        assert self.fp is not None
        self._data: bytes | None = self.fp.read()
        content = container.read(self._data, _codec().limits)
        header = content.header
        self._size = header.width, header.height
        self._mode = ("L" if header.gray else "RGB") + ("" if content.alpha is None else "A")
        metadata = {"icc_profile": content.icc, "exif": content.exif and PREFIX + content.exif, "xmp": content.xmp}
        self.info |= {name: value for name, value in metadata.items() if value}

    def load(self) -> Any:
        """Decode, once."""
        if self._data is not None:
            image = image_of(_codec().decode_picture(self._data, _Registered.level))
            self.im, self._data, self.tile = image.im, None, []
        return super().load()


def _save(image: Image.Image, file: IO[bytes], name: str | bytes) -> None:
    options: dict[str, Any] = dict(image.encoderinfo)
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise ValueError(f"{min(unknown)!r} is no option of {FORMAT}; there are {', '.join(sorted(_OPTIONS))}")
    copy = image.copy()
    for kind in ("icc_profile", "exif", "xmp"):
        if kind in options:
            value = options.pop(kind)
            copy.info[kind] = value.tobytes() if isinstance(value, Image.Exif) else value
    codec = _codec()
    picture = picture_of(copy, codec.limits)
    if "max_bytes" in options:
        file.write(codec.encode_within(picture, **options))
    else:
        file.write(codec.encode(picture, options.pop("quality", DEFAULT_QUALITY), **options))
