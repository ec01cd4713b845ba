"""The part of EXIF that picture files need: orientation, and the tags that TIFF mixes with its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from basic_runtime.picture import Pixels

ORIENTATION = 0x0112
UPRIGHT = 1
_ORIENTATIONS = range(1, 9)

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
# A TIFF file keeps EXIF among the tags that describe its strips; these are the ones that describe the photo:
# ImageDescription, Make, Model, Orientation, XResolution, YResolution, ResolutionUnit, Software, DateTime,
# Artist, Copyright.
_PHOTO_TAGS = (0x010E, 0x010F, 0x0110, ORIENTATION, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)


def orientation(exif: bytes | None) -> int:
    """The orientation tag, 1..8; 1 (upright) where there is none or it cannot be read."""
    if not exif:
        return UPRIGHT
    try:
        value = _parse(exif).get(ORIENTATION, UPRIGHT)
    except Exception:  # Pillow raises anything on damaged EXIF
        return UPRIGHT
    return value if value in _ORIENTATIONS else UPRIGHT


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """`pixels` (H, W) or (H, W, 3), turned and mirrored as `orientation` (EXIF 2.3, tag 0x0112) demands."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def photo_tags(exif: Image.Exif) -> Image.Exif:
    """The tags of `exif` that describe the photo and not the layout of a TIFF file."""
    kept = Image.Exif()
    for tag in _PHOTO_TAGS:
        if tag in exif and (tag != ORIENTATION or exif[tag] in _ORIENTATIONS):  # libtiff takes no other
            kept[tag] = exif[tag]
    for tag in (_EXIF_IFD, _GPS_IFD):
        tags: dict[int, Any] = exif.get_ifd(tag)
        if tags:
            kept[tag] = tags
    return kept


def parse_for_tiff(exif: bytes, xmp: bytes | None) -> Image.Exif:
    """Tags to hand to Pillow's TIFF writer. May raise anything if `exif` is damaged."""
    # Only tags that come from bytes have the sub-directories that the writer asks for.
    tags = _parse(photo_tags(_parse(exif)).tobytes()) if exif else Image.Exif()
    if xmp:
        tags[0x02BC] = xmp
    return tags


def has_directories(exif: Image.Exif) -> bool:
    """Whether `exif` has the sub-directories of camera settings or of GPS."""
    return any(tag in exif for tag in (_EXIF_IFD, _GPS_IFD))


def _parse(exif: bytes) -> Image.Exif:
    parsed = Image.Exif()
    parsed.load(exif)
    return parsed
