"""Measures every picture with every codec and setting: bytes of real files, 8-bit pixels, milliseconds."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from basic_runtime.codec import Codec
from basic_runtime.engines import AUTO
from basic_runtime.errors import BasicError, EngineError, FileError, ImageError
from basic_runtime.files import reason
from basic_runtime.imageio import has_avif, input_extensions, read_picture
from basic_runtime.limits import DEFAULT_LIMITS, Limits
from basic_runtime.metrics import bpp, psnr
from basic_runtime.picture import Pixels
from basic_runtime.tiles import TILE_PIXELS

OURS = "BaSIC"
_NAMES = "surrogateescape"  # of files may be no UTF-8, and are read as they were written
#: Qualities 1..100 of our codec that make up a curve.
QUALITIES = (1, 15, 29, 43, 57, 72, 86, 100)


@dataclass(frozen=True)
class Rival:
    """A codec of Pillow: how its files are written, and the qualities of its curve. plugin: the module that makes
    Pillow know it, where that takes one."""

    format: str
    max_side: int
    options: dict[str, object]
    qualities: tuple[int, ...]
    plugin: str | None = None

    def is_available(self) -> bool:
        """Whether this Pillow can write it."""
        if self.plugin is not None:
            return find_spec(self.plugin) is not None
        return self.format != "AVIF" or has_avif()

    def load(self) -> None:
        """Make Pillow know it."""
        if self.plugin is not None:
            import_module(self.plugin)


RIVALS = {
    "JPEG": Rival("JPEG", 65_500, {"optimize": True, "subsampling": "4:2:0"}, (5, 10, 20, 30, 45, 60, 75, 85, 92)),
    "WebP": Rival("WEBP", 16_383, {"method": 6}, (1, 10, 25, 40, 55, 70, 80, 88, 94)),
    "AVIF": Rival("AVIF", 65_536, {"speed": 6}, (20, 30, 40, 50, 60, 70, 80, 88)),
    # Below quality 20 libjxl halves the picture, which bends a curve in PSNR.
    "JPEG XL": Rival("JXL", 65_535, {"effort": 7}, (20, 27, 35, 48, 60, 75, 85, 92), plugin="pillow_jxl"),
}


@dataclass(frozen=True)
class Setting:
    """One codec at one quality: `model` is the identity of our bundle, with the encoder's effort if it made any and
    the precision if one was asked for, "" for others; level None for others."""

    codec: str
    model: str
    level: int | None
    quality: int

    @property
    def curve(self) -> str:
        """Name of the curve that this setting is a point of."""
        return self.codec if self.level is None else f"level {self.level}"


@dataclass(frozen=True)
class Row:
    """One picture under one setting. bytes: of the whole file; ms_ssim: nan where it cannot be had."""

    codec: str
    model: str
    level: int | None
    quality: int
    picture: str
    width: int
    height: int
    bytes: int
    psnr: float
    ms_ssim: float
    encode_ms: float
    decode_ms: float

    @property
    def setting(self) -> Setting:
        return Setting(self.codec, self.model, self.level, self.quality)

    @property
    def bpp(self) -> float:
        return bpp(self.bytes, self.width, self.height)


COLUMNS = [field.name for field in fields(Row)]


def available_rivals() -> list[str]:
    """The rivals that can be written here."""
    return [name for name, rival in RIVALS.items() if rival.is_available()]


def settings(model: str, levels: Sequence[int], qualities: Sequence[int], rivals: Sequence[str]) -> list[Setting]:
    """Every codec and quality of a comparison."""
    ours = [Setting(OURS, model, level, quality) for level in levels for quality in qualities]
    return ours + [Setting(name, "", None, quality) for name in rivals for quality in RIVALS[name].qualities]


def list_pictures(folder: Path, plot: Path | None = None) -> list[Path]:
    """The pictures in a folder, by name, but for the plot of the evaluation. Raises ImageError if there are none."""
    try:
        if not folder.is_dir():
            raise ImageError(f"{folder}: no such folder: name a folder of pictures")
        found = sorted(path for path in folder.iterdir() if _is_picture(path) and not _is_same(path, plot))
    except OSError as error:
        raise FileError(f"{folder}: cannot be read ({reason(error)}): check its permissions") from error
    if not found:
        raise ImageError(f"{folder}: no pictures in this folder: name one with PNG files")
    return found


def _is_picture(path: Path) -> bool:
    # Pipes are left out: reading one may never end. A link to nothing stays: reading it is an error. Hidden files are
    # what other systems leave beside pictures, under their names.
    named = path.suffix.lower() in input_extensions() and path.name[0] != "."
    return named and (path.is_file() or not path.exists())


def _is_same(path: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(path) == os.path.realpath(other)


def comparable(pictures: Sequence[Path], rivals: Sequence[str], limits: Limits) -> tuple[list[Path], list[BasicError]]:
    """The pictures that can be read, and written by all rivals; and what is wrong with the others."""
    good, errors = [], []
    for picture in pictures:
        try:
            _check_sides(picture, read_picture(picture, limits).pixels, rivals)
            good.append(picture)
        except BasicError as error:
            errors.append(error)
    return good, errors


def _check_sides(picture: Path, pixels: Pixels, rivals: Sequence[str]) -> None:
    height, width = pixels.shape[:2]
    for name in rivals:
        if max(height, width) > (most := RIVALS[name].max_side):
            raise ImageError(
                f"{picture}: has {width}x{height} pixels, and {name} takes at most {most} a side: compare it without, "
                "by --codecs"
            )


def has_ms_ssim() -> bool:
    """Whether the packages that compute MS-SSIM are installed."""
    return all(find_spec(name) is not None for name in ("torch", "pytorch_msssim"))


def ms_ssim(reference: Pixels, picture: Pixels) -> float:
    """MS-SSIM (Wang et al. 2003) of two uint8 RGB pictures, mean over channels; nan below 161 pixels a side."""
    if min(reference.shape[:2]) <= 160 or not has_ms_ssim():
        return math.nan
    import torch
    from pytorch_msssim import ms_ssim as compute

    x, y = (torch.from_numpy(a.copy()).permute(2, 0, 1)[None].float() for a in (reference, picture))
    return float(compute(x, y, data_range=255))


# --- one picture under one setting -------------------------------------------------------------------------------

_codec: Codec | None = None
Task = tuple[Path, Setting, int, int]
"""The arguments of `_measure`."""


def _start(bundle: str | None, engine: str, threads: int | None, precision: str | None, limits: Limits) -> None:
    """In each process: one codec for all its work."""
    global _codec
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    _codec = Codec(bundle, engine, threads=threads, precision=precision, limits=limits)


def _measure(picture: Path, setting: Setting, reps: int, effort: int) -> Row:
    assert _codec is not None
    pixels = read_picture(picture, _codec.limits).rgb
    if setting.level is not None:
        _warm_up(setting, max(pixels.shape) > TILE_PIXELS, effort)
    else:
        RIVALS[setting.codec].load()
    encode_ms, decode_ms = math.inf, math.inf
    for _ in range(reps):
        begun = time.perf_counter()
        data = _encode(setting, pixels, effort)
        middle = time.perf_counter()
        decoded = _decode(setting, data)
        decode_ms = min(decode_ms, 1000 * (time.perf_counter() - middle))
        encode_ms = min(encode_ms, 1000 * (middle - begun))
    return Row(
        codec=setting.codec,
        model=setting.model,
        level=setting.level,
        quality=setting.quality,
        picture=picture.name,
        width=pixels.shape[1],
        height=pixels.shape[0],
        bytes=len(data),
        psnr=psnr(pixels, decoded),
        ms_ssim=ms_ssim(pixels, decoded),
        encode_ms=encode_ms,
        decode_ms=decode_ms,
    )


@cache
def _warm_up(setting: Setting, in_tiles: bool, effort: int) -> None:
    """Code a small picture untimed, once in each process: networks are loaded for each level and quality, and others
    for pictures in tiles."""
    small = np.zeros((64, TILE_PIXELS + 64 if in_tiles else 64, 3), np.uint8)
    _decode(setting, _encode(setting, small, effort))


def _encode(setting: Setting, pixels: Pixels, effort: int) -> bytes:
    if setting.level is not None:
        assert _codec is not None
        return _codec.encode(pixels, quality=setting.quality, level=setting.level, effort=effort)
    rival, file = RIVALS[setting.codec], io.BytesIO()
    options: dict[str, Any] = dict(rival.options)
    Image.fromarray(pixels).save(file, rival.format, quality=setting.quality, **options)
    return file.getvalue()


def _decode(setting: Setting, data: bytes) -> Pixels:
    if setting.level is not None:
        assert _codec is not None
        return _codec.decode(data)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# --- all of them ---------------------------------------------------------------------------------------------------


class Results:
    """Rows in a CSV file, appended as they are measured, so that a run goes on where it stopped."""

    def __init__(self, path: Path | None) -> None:
        """Reads the rows that the file holds. Raises FileError if it is another file or cannot be read."""
        self.path = path
        self.rows: dict[tuple[Setting, str], Row] = {}
        if path is not None and path.exists():
            self._read(path)

    def add(self, row: Row) -> None:
        """Keep a row, in the file too."""
        self.rows[row.setting, row.picture] = row
        if self.path is None:
            return
        try:
            new = not self.path.exists()
            with self.path.open("a", newline="", encoding="utf-8", errors=_NAMES) as file:
                writer = csv.DictWriter(file, COLUMNS)
                if new:
                    writer.writeheader()
                writer.writerow(asdict(row))
        except OSError as error:
            raise FileError(f"{self.path}: cannot be written ({error.strerror}): name another -o") from error

    def _read(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            # A run that was killed may have left half a row; the next one must not be appended to it.
            whole = data.rfind(b"\n") + 1
            reader = csv.DictReader(io.StringIO(data[:whole].decode(errors=_NAMES), newline=""))
            if reader.fieldnames != COLUMNS:
                raise FileError(f"{path}: is no table of basic-run evaluate: name another file with -o")
            for values in reader:
                row = _parse(values)
                if row is None:
                    raise FileError(
                        f"{path}: line {reader.line_num} is damaged: delete it, or name another file with -o"
                    )
                self.rows[row.setting, row.picture] = row
            if whole < len(data):
                os.truncate(path, whole)
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{path}: cannot be read ({error}): name another file with -o") from error


def _parse(values: dict[str, str]) -> Row | None:
    """A row of the file; None if it is none."""
    if None in values or None in values.values():  # more or fewer cells than columns
        return None
    try:
        return Row(
            codec=values["codec"],
            model=values["model"],
            level=int(values["level"]) if values["level"] else None,
            quality=int(values["quality"]),
            picture=values["picture"],
            width=int(values["width"]),
            height=int(values["height"]),
            bytes=int(values["bytes"]),
            psnr=float(values["psnr"]),
            ms_ssim=float(values["ms_ssim"]),
            encode_ms=float(values["encode_ms"]),
            decode_ms=float(values["decode_ms"]),
        )
    except ValueError:
        return None


@dataclass(frozen=True)
class Options:
    """bundle, engine, threads, precision and limits as for `Codec`; jobs: processes side by side, which disturb each
    other's times; reps: times that everything is coded, of which the fastest counts; effort: of our encoder."""

    bundle: str | None = None
    engine: str = AUTO
    threads: int | None = None
    jobs: int = 1
    reps: int = 1
    effort: int = 0
    precision: str | None = None
    limits: Limits = DEFAULT_LIMITS


def measure(pictures: Sequence[Path], wanted: Iterable[Setting], results: Results, options: Options) -> Iterator[Row]:
    """Measure what `results` does not hold yet, and yield each row when it is there."""
    jobs = [(p, s, options.reps, options.effort) for p in pictures for s in wanted if (s, p.name) not in results.rows]
    if not jobs:
        return
    start = (options.bundle, options.engine, options.threads, options.precision, options.limits)
    _start(*start)  # here too, so that a wrong bundle or engine is an error in one line
    alone = options.jobs == 1
    for row in (_measure(*job) for job in jobs) if alone else _side_by_side(jobs, start, options.jobs):
        results.add(row)
        yield row


def _side_by_side(jobs: Sequence[Task], start: tuple[Any, ...], processes: int) -> Iterator[Row]:
    """New processes, not forks of this one: engines have threads, which a fork leaves behind."""
    try:
        with ProcessPoolExecutor(processes, get_context("spawn"), _start, start) as pool:
            yield from pool.map(_measure, *zip(*jobs, strict=True))
    except BrokenProcessPool as error:
        raise EngineError(
            "a process ended early, for lack of memory perhaps: take fewer --jobs; what is measured is kept"
        ) from error
