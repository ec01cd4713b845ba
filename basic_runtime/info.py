"""Describes a compressed file from its header and chunks, without a model."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from basic_runtime.container import ALPHA, EXIF, ICC, XMP, parse
from basic_runtime.deflate import Buffer
from basic_runtime.limits import DEFAULT_LIMITS, Limits
from basic_runtime.metrics import bpp
from basic_runtime.quality import quality_of_step


@dataclass(frozen=True)
class FileInfo:
    """Header fields and sizes of a compressed file; `chunks` are (type, bytes with framing) in file order."""

    model_name: str
    model_id: str
    width: int
    height: int
    gray: bool
    quality: int
    """Quality 1..100 that gives this file's quality step."""
    quality_step: int
    level: int
    """Level the encoder ran at."""
    decode_level: int
    """Level at which a decoder runs g_s by default."""
    entropy_variant: int
    bytes: int
    bpp: float
    chunks: tuple[tuple[str, int], ...]

    @property
    def has_alpha(self) -> bool:
        return self._has(ALPHA)

    @property
    def metadata(self) -> tuple[str, ...]:
        """Which of ICC, EXIF and XMP the file carries."""
        names = (("ICC", ICC), ("EXIF", EXIF), ("XMP", XMP))
        return tuple(name for name, kind in names if self._has(kind))

    def _has(self, kind: str) -> bool:
        return any(found == kind for found, _ in self.chunks)


def file_info(data: Buffer, *, limits: Limits = DEFAULT_LIMITS) -> FileInfo:
    """Describe the compressed file `data`. Raises FormatError or LimitError as `container.parse` does, but takes
    pictures of any size, as nothing is decoded."""
    header, chunks = parse(data, replace(limits, max_pixels=sys.maxsize, max_side=sys.maxsize))
    size = memoryview(data).nbytes
    return FileInfo(
        model_name=header.model_name,
        model_id=header.model_id,
        width=header.width,
        height=header.height,
        gray=header.gray,
        quality=quality_of_step(header.quality_step),
        quality_step=header.quality_step,
        level=header.level,
        decode_level=header.decode_level,
        entropy_variant=header.entropy_variant,
        bytes=size,
        bpp=bpp(size, header.width, header.height),
        chunks=tuple((chunk.type, chunk.size) for chunk in chunks),
    )
