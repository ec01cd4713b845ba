"""A picture in memory: pixels and what goes with them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

EXIF_PREFIX = b"Exif\0\0"
"""The name of JPEG's marker, which Pillow leaves in front of EXIF."""

#: uint8, (H, W, 3) for RGB or (H, W) for gray.
Pixels = npt.NDArray[np.uint8]


@dataclass(slots=True, eq=False)
class Picture:
    """A picture in memory.

    `pixels` is uint8, (H, W, 3) for RGB or (H, W) for gray; `alpha` is uint8 (H, W) or None; `exif` starts
    with its TIFF header (Pillow's prefix is taken off); `notices` says, a line each, what reading changed.
    Raises TypeError for anything but an array, ValueError for arrays of another dtype or shape.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raises what the constructor does, for attributes that were set since."""
        _check_array(self.pixels)
        self.pixels = np.asarray(self.pixels)  # subclasses such as np.matrix behave differently
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
            raise ValueError(f"pixels must be uint8 (H, W, 3) or (H, W), not {self.pixels.dtype} {shape}")
        if 0 in shape:
            raise ValueError("a picture has at least one pixel")
        for name in ("icc", "exif", "xmp"):
            content = getattr(self, name)
            if not isinstance(content, bytes | bytearray | memoryview | None):
                raise TypeError(f"{name} must be bytes, not {type(content).__name__}")
            setattr(self, name, None if content is None else bytes(content))
        self.exif = self.exif and (_strip_prefix(self.exif) or None)
        if self.alpha is None:
            return
        if not isinstance(self.alpha, np.ndarray):
            raise TypeError(f"alpha must be a uint8 array (H, W), not {type(self.alpha).__name__}")
        self.alpha = np.asarray(self.alpha)
        if self.alpha.dtype != np.uint8 or self.alpha.shape != shape[:2]:
            raise ValueError(f"alpha must be uint8 {shape[:2]}, not {self.alpha.dtype} {self.alpha.shape}")

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def gray(self) -> bool:
        return self.pixels.ndim == 2

    @property
    def rgb(self) -> Pixels:
        """The pixels as (H, W, 3), gray or not."""
        return np.repeat(self.pixels[:, :, None], 3, axis=2) if self.gray else self.pixels


def _strip_prefix(exif: bytes) -> bytes:
    """`exif` from its TIFF header on; some writers put the JPEG marker's name in front, or even twice."""
    while exif.startswith(EXIF_PREFIX):
        exif = exif[len(EXIF_PREFIX) :]
    return exif


def _check_array(pixels: object) -> None:
    """Raises TypeError for anything but an array, and says how it becomes a picture."""
    if isinstance(pixels, np.ndarray):
        return
    kind = type(pixels).__name__
    if isinstance(pixels, Image.Image):
        raise TypeError(
            f"{kind} is a picture of Pillow's: read its file with read_picture(path), or call "
            "basic_runtime.pillow.register() and then image.save()"
        )
    if isinstance(pixels, str | bytes | os.PathLike):
        raise TypeError(f"pixels are wanted, not {kind}: read the picture first, with read_picture(path)")
    raise TypeError(f"pixels must be a uint8 array (H, W, 3) or (H, W), or a Picture, not {kind}")


def as_picture(
    image: Picture | Pixels,
    alpha: Pixels | None = None,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> Picture:
    """A picture of pixels and what goes with them; or the one that is given, which has that already (ValueError if it
    is given too)."""
    if not isinstance(image, Picture):
        return Picture(image, alpha, icc, exif, xmp)
    if any(extra is not None for extra in (alpha, icc, exif, xmp)):
        raise ValueError("a Picture holds its own alpha and metadata: set them there")
    image.check()
    return image
