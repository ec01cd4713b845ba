"""Upper bounds on what a file may ask for, in one place.

They are checked against the sizes that a file *claims*, before anything of that size is allocated. Each can
be raised by whoever trusts the input: ``Limits(max_pixels=10**9)``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from basic_runtime.arguments import whole
from basic_runtime.errors import LimitError

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for pictures and compressed files; all are inclusive."""

    max_pixels: int = 128_000_000
    """Width times height of a picture. At 12 to 15 MB per megapixel (benchmarks/large_picture.py) this keeps a
    process below 2 GB."""
    max_side: int = 65_535
    """Width, and height, of a picture."""
    max_file_bytes: int = 2048 * _MIB
    """Size of any file that is read, compressed or not."""
    max_chunk_bytes: int = 1024 * _MIB
    """Payload of one chunk of a compressed file."""
    max_chunks: int = 64
    """Chunks in one compressed file."""
    max_metadata_bytes: int = 16 * _MIB
    """ICC profile, EXIF and XMP, each, after decompression."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if whole(field.name, getattr(self, field.name)) < 1:
                raise ValueError(f"{field.name}={getattr(self, field.name)}: must be more than 0")

    def check_size(self, width: int, height: int) -> None:
        """Raises `LimitError` for a picture of `width` x `height` pixels that is too large."""
        if width > self.max_side or height > self.max_side:
            raise LimitError(
                f"the picture is {width}x{height} pixels, and a side may have {self.max_side}: "
                "split it, as no option allows more (from Python: Limits(max_side=...))"
            )
        if width * height > self.max_pixels:
            raise LimitError(
                f"the picture is {width}x{height} pixels, and {self.max_pixels} in all are allowed: "
                "allow more with --max-pixels (from Python: Limits(max_pixels=...)) if you trust the file"
            )

    def check_bytes(self, what: str, size: int, limit_name: str) -> None:
        """Raises `LimitError` if `size` bytes exceed the field `limit_name`; `what` names the thing."""
        bound = getattr(self, limit_name)
        if size > bound:
            raise LimitError(
                f"{what} has {size} bytes, and {bound} are allowed: raise the limit {limit_name} if you trust the file"
            )


DEFAULT_LIMITS = Limits()
