"""`basic-run encode`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from basic_runtime.cli.batch import Result, run_jobs, share_cores
from basic_runtime.cli.options import (
    AUTO,
    ByteSize,
    FiniteRange,
    LevelChoice,
    budget_option,
    codec_options,
    effort_option,
    limit_option,
    output_options,
)
from basic_runtime.cli.plan import Job, check_output, plan_jobs
from basic_runtime.definitions import EXTENSION
from basic_runtime.files import STREAM, write_bytes

if TYPE_CHECKING:
    from basic_runtime.codec import Codec
    from basic_runtime.limits import Limits
    from basic_runtime.picture import Picture


@dataclass(frozen=True)
class Aim:
    """The aim of an encode: a quality, at most so many bytes or bits per pixel, or at least a PSNR in dB; the default
    quality if none is named. Raises click.UsageError for more than one of them."""

    quality: int | None
    size: int | None
    bpp: float | None
    psnr: float | None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.quality, self.size, self.bpp, self.psnr)) > 1:
            raise click.UsageError("--quality, --target-size, --target-bpp and --target-psnr exclude each other")

    @property
    def searched(self) -> bool:
        """Whether the quality is to be found."""
        return any(value is not None for value in (self.size, self.bpp, self.psnr))

    def encode(self, codec: Codec, picture: Picture, level: int | None, effort: int) -> bytes:
        """The file of a picture. Raises what `Codec` does."""
        from basic_runtime.codec import DEFAULT_QUALITY

        if self.psnr is not None:
            return codec.encode_reaching(picture, self.psnr, level=level, effort=effort)
        if self.size is not None:
            return codec.encode_within(picture, self.size, level=level, effort=effort)
        if self.bpp is not None:
            return codec.encode_within(picture, _bytes_of(self.bpp, picture, codec), level=level, effort=effort)
        return codec.encode(picture, quality=self.quality or DEFAULT_QUALITY, level=level, effort=effort)


def _bytes_of(bpp: float, picture: Picture, codec: Codec) -> int:
    """The largest file of so many bits per pixel. Raises TargetError if that is less than a byte."""
    from basic_runtime.errors import TargetError

    size = int(min(bpp * picture.width * picture.height / 8, codec.limits.max_file_bytes))
    if size < 1:
        raise TargetError(f"{bpp:g} bits per pixel of this picture are less than a byte: raise the target")
    return size


@click.command(short_help="Compress pictures.")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@output_options
@click.option(
    "--keep-extension", is_flag=True, help="Put .basic behind the input's extension: photo.jpg gives photo.jpg.basic."
)
@click.option("-q", "--quality", type=click.IntRange(1, 100), help="1 small, 100 good [default: 50].")
@click.option("--target-size", type=ByteSize(), help="The best quality in at most so many bytes, like 40000 or 40k.")
@click.option(
    "--target-bpp",
    type=FiniteRange(min=0, min_open=True),
    metavar="BPP",
    help="The best quality in at most so many bits per pixel.",
)
@click.option(
    "--target-psnr",
    type=FiniteRange(min=0, min_open=True),
    metavar="DB",
    help="The lowest quality whose picture has at least this PSNR.",
)
@click.option("--level", type=LevelChoice(), help="0 fast, 7 compresses best, or auto (default: the bundle's best).")
@budget_option("level, and effort,")
@effort_option("1; with a time budget 1 or 0, as fits")
@click.option("--strip", is_flag=True, help="Leave out EXIF and XMP; the picture is turned upright first.")
@limit_option
@codec_options
def encode(
    inputs: tuple[str, ...],
    output: str | None,
    out_dir: str | None,
    overwrite: bool,
    skip_existing: bool,
    as_json: bool,
    workers: int | None,
    keep_extension: bool,
    quality: int | None,
    target_size: int | None,
    target_bpp: float | None,
    target_psnr: float | None,
    level: int | str | None,
    budget_ms: float | None,
    effort: int | None,
    strip: bool,
    max_pixels: int | None,
    bundle: str | None,
    engine: str,
    precision: str | None,
    threads: int | None,
) -> None:
    """Compress PNG, JPEG, WebP, TIFF, PPM, BMP, GIF, AVIF or HEIC pictures to .basic files.

    IN may be - for standard input, or a folder, which stands for all pictures in it and below, but for hidden
    ones. Metadata, colour profile and transparency are kept.
    """
    from basic_runtime.cli.make_codec import chooser, make_codec
    from basic_runtime.imageio import input_extensions

    aim = Aim(quality, target_size, target_bpp, target_psnr)
    timed = budget_ms is not None or level == AUTO
    _check_name(output)
    plan = plan_jobs(inputs, output, out_dir, EXTENSION, input_extensions(), overwrite, skip_existing, keep_extension)
    workers, threads = share_cores(len(plan.jobs), workers, threads, timed=timed)
    codec = make_codec(bundle, engine, threads, level, max_pixels, precision)
    choice_for = chooser(codec, level, budget_ms, "encode", effort)

    def work(job: Job) -> Result:
        check_output(job, overwrite)
        picture = _read(job.source, codec.limits, strip)
        choice = choice_for(picture.width, picture.height)
        taken = codec.bundle.default_effort if choice.effort is None else choice.effort
        data = aim.encode(codec, picture, choice.level, taken)
        write_bytes(job.target, data, overwrite=overwrite)
        return _result(job, picture, data, taken)

    chosen = [
        *(["quality"] if aim.searched else []),
        *(["level"] if timed else []),
        *(["effort"] if timed and effort is None else []),
    ]
    run_jobs(
        plan,
        work,
        describe=partial(_describe, chosen=chosen),
        summarise=_summarise,
        as_json=as_json,
        workers=workers,
        skip_existing=skip_existing,
    )


def _check_name(output: str | None) -> None:
    """Raises click.UsageError for an output that others would take for a picture, as its extension says so."""
    from basic_runtime.imageio import KNOWN_EXTENSIONS

    named = Path(output or "")
    if named.suffix.lower() in KNOWN_EXTENSIONS:
        ours = named.with_suffix(EXTENSION)
        raise click.UsageError(f"-o {output}: encode writes {EXTENSION} files, and no pictures: name it {ours}")


def _read(source: str, limits: Limits, strip: bool) -> Picture:
    from basic_runtime.imageio import read_picture

    picture = read_picture(source, limits)
    return _without_metadata(picture) if strip else picture


def _result(job: Job, picture: Picture, data: bytes, effort: int) -> Result:
    from basic_runtime.container import peek
    from basic_runtime.metrics import bpp
    from basic_runtime.quality import quality_of_step

    header = peek(data)
    return {
        "width": picture.width,
        "height": picture.height,
        "bytes": len(data),
        "bpp": round(bpp(len(data), picture.width, picture.height), 5),
        "quality": quality_of_step(header.quality_step),
        "level": header.level,
        "effort": effort,
        "notices": [*picture.notices, *_larger(job.source, len(data))],
    }


def _larger(source: str, size: int) -> list[str]:
    """A notice if the result is no smaller than its source, as with drawings and hard-compressed sources."""
    try:
        before = 0 if source == STREAM else Path(source).stat().st_size
    except OSError:  # it was a pipe, or is gone
        return []
    if not 0 < before <= size:
        return []
    return [f"the result has {size:,} bytes, its source {before:,}: lower --quality, or keep a drawing as it is"]


def _without_metadata(picture: Picture) -> Picture:
    """The picture without EXIF and XMP. The colour profile stays: without it the colours would be others."""
    from basic_runtime.exif import orientation, upright
    from basic_runtime.picture import Picture

    turn = orientation(picture.exif)
    alpha = None if picture.alpha is None else upright(picture.alpha, turn)
    return Picture(upright(picture.pixels, turn), alpha, icc=picture.icc, notices=picture.notices)


def _describe(result: Result, chosen: Sequence[str]) -> str:
    """A line for a file; `chosen`: entries of the result that the command chose."""
    return (
        f"{result['input']} -> {result['output']}  {result['width']}x{result['height']}  "
        f"{result['bytes']:,} bytes  {result['bpp']:.3f} bpp  {result['seconds'] * 1000:.0f} ms"
        + "".join(f"  {name} {result[name]}" for name in chosen)
    )


def _summarise(results: list[Result], seconds: float) -> str:
    size = sum(result["bytes"] for result in results)
    pixels = sum(result["width"] * result["height"] for result in results)
    rate = f", {8 * size / pixels:.3f} bpp" if pixels else ""
    return f"{len(results)} encoded: {size:,} bytes{rate}, {seconds:.1f} s"
