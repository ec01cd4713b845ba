"""A first look: photos through the codec, beside JPEG and WebP of the same size.

    python -m basic_runtime.demo [PHOTO...] [-o DIR]

Prints a table of level, size, PSNR and time, and writes one side-by-side picture per photo.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from basic_runtime.cli.lines import tell_error
from basic_runtime.codec import DEFAULT_QUALITY, Codec
from basic_runtime.errors import BasicError, MissingExtraError
from basic_runtime.exif import orientation, upright
from basic_runtime.files import make_folder, write_file
from basic_runtime.imageio import read_picture
from basic_runtime.metrics import bpp, psnr
from basic_runtime.picture import Pixels

if TYPE_CHECKING:
    from rich.table import Table

BUNDLED_PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
"""Photos that lie in the package scikit-image itself; its others are downloaded on first use."""
LEVELS = (0, 3, 5, 7)
REPETITIONS = 3

_PANEL = 480
_CROP = 160
_LABEL_HEIGHT = 30
_GAP = 8


@dataclass(frozen=True)
class Coded:
    """A picture after some codec: its pixels, the bytes of the file, the time of both ways (0: not taken)."""

    codec: str
    pixels: Pixels
    size: int
    psnr: float
    encode_ms: float = 0.0
    decode_ms: float = 0.0


def code_with_codec(codec: Codec, pixels: Pixels, quality: int, level: int) -> Coded:
    """The picture through `codec` at a level; times are the best of a few calls after a first one."""
    data = codec.encode(pixels, quality=quality, level=level)
    back = codec.decode(data)
    encode_ms = _best_ms(partial(codec.encode, pixels, quality=quality, level=level))
    decode_ms = _best_ms(partial(codec.decode, data))
    return Coded(f"BaSIC level {level}", back, len(data), psnr(pixels, back), encode_ms, decode_ms)


def code_with_pillow(format: str, pixels: Pixels, size: int) -> Coded:
    """The picture as "JPEG" or "WEBP" at the highest quality whose file has at most `size` bytes.

    If all are larger, the lowest quality is used.
    """
    image = Image.fromarray(pixels)
    low, high = 1, 100
    while low < high:
        middle = (low + high + 1) // 2
        if len(_pillow_bytes(image, format, middle)) <= size:
            low = middle
        else:
            high = middle - 1
    data = _pillow_bytes(image, format, low)
    back = np.asarray(Image.open(io.BytesIO(data)).convert(image.mode))
    return Coded({"JPEG": "JPEG", "WEBP": "WebP"}[format], back, len(data), psnr(pixels, back))


def side_by_side(original: Pixels, versions: Sequence[Coded]) -> Image.Image:
    """Original and versions in a row, whole and, below, a crop from the middle enlarged."""
    panels = [("original", original)]
    panels += [(f"{v.codec}  {v.size:,} bytes  {v.psnr:.2f} dB", v.pixels) for v in versions]
    height, width = original.shape[:2]
    scale = min(_PANEL / width, _PANEL / height)
    scaled = (max(1, round(width * scale)), max(1, round(height * scale)))
    side = min(_CROP, height, width)
    sheet = Image.new(
        "RGB",
        (len(panels) * (_PANEL + _GAP) - _GAP, _LABEL_HEIGHT + scaled[1] + _GAP + _PANEL),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(18)
    top, left = (height - side) // 2, (width - side) // 2
    for number, (label, pixels) in enumerate(panels):
        x = number * (_PANEL + _GAP)
        draw.text((x + 4, 4), label, fill="black", font=font)
        image = Image.fromarray(pixels).convert("RGB")
        sheet.paste(image.resize(scaled, Image.Resampling.LANCZOS), (x, _LABEL_HEIGHT))
        crop = image.crop((left, top, left + side, top + side))
        zoomed = crop.resize((_PANEL, _PANEL), Image.Resampling.NEAREST)
        sheet.paste(zoomed, (x, _LABEL_HEIGHT + scaled[1] + _GAP))
    return sheet


def load_photos(paths: Sequence[str]) -> list[tuple[str, Pixels]]:
    """Names and pixels: scikit-image's bundled photos, then the files at `paths`, turned upright.

    Raises MissingExtraError if scikit-image is not installed and no path is given.
    """
    photos: list[tuple[str, Pixels]] = []
    try:
        from skimage import data
    except ImportError as error:
        if not paths:
            raise MissingExtraError.of("the demo, without a photo of yours,", "demo") from error
    else:
        photos += [(name, getattr(data, name)()) for name in BUNDLED_PHOTOS]
    for path in paths:
        picture = read_picture(path)
        photos.append((Path(path).stem, upright(picture.pixels, orientation(picture.exif))))
    return photos


def run(paths: Sequence[str], folder: Path, quality: int, bundle: str | None) -> None:
    """Code all photos, print the table of each, write its picture into `folder`. Raises BasicError."""
    from rich.console import Console

    console = Console()
    codec = Codec(bundle)
    console.print(f"model {codec.bundle.name} on {codec.backend.name} {codec.backend.version}, quality {quality}")
    photos = load_photos(paths)
    make_folder(folder)
    for name, pixels in photos:
        levels = [level for level in LEVELS if level < len(codec.bundle.manifest.levels)]
        rows = [_with_rivals(codec, pixels, quality, level) for level in levels]
        console.print(_table(name, pixels, levels, rows))
        target = folder / f"demo-{name}.png"
        write_file(target, partial(side_by_side(pixels, rows[-1]).save, format="PNG"), overwrite=True)
        console.print(f"side by side: {target}\n", highlight=False, soft_wrap=True)


@click.command()
@click.argument("photos", nargs=-1, metavar="[PHOTO...]")
@click.option("-o", "--out-dir", default="demo-out", show_default=True, help="Folder for the side-by-side pictures.")
@click.option("-q", "--quality", type=click.IntRange(1, 100), default=DEFAULT_QUALITY, show_default=True)
@click.option("--bundle", metavar="DIR", help="Model bundle (default: the one that is installed).")
def main(photos: tuple[str, ...], out_dir: str, quality: int, bundle: str | None) -> None:
    """Code scikit-image's photos and the PHOTOs you name, beside JPEG and WebP of the same size."""
    try:
        run(photos, Path(out_dir), quality, bundle)
    except BasicError as error:
        tell_error(str(error), "demo")
        raise SystemExit(1) from error


def _with_rivals(codec: Codec, pixels: Pixels, quality: int, level: int) -> tuple[Coded, Coded, Coded]:
    ours = code_with_codec(codec, pixels, quality, level)
    return ours, code_with_pillow("JPEG", pixels, ours.size), code_with_pillow("WEBP", pixels, ours.size)


def _table(name: str, pixels: Pixels, levels: Sequence[int], rows: Sequence[tuple[Coded, Coded, Coded]]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    height, width = pixels.shape[:2]
    table = Table(title=f"{name}, {width}x{height}", title_justify="left", box=SIMPLE, collapse_padding=True)
    ours_columns = ("level", "bytes", "bpp", "PSNR", "enc ms", "dec ms")
    for heading in (*ours_columns, "JPEG", "PSNR", "WebP", "PSNR"):
        table.add_column(heading, justify="right")
    for level, (ours, jpeg, webp) in zip(levels, rows, strict=True):
        table.add_row(
            str(level),
            f"{ours.size:,}",
            f"{bpp(ours.size, width, height):.3f}",
            f"{ours.psnr:.2f}",
            f"{ours.encode_ms:.0f}",
            f"{ours.decode_ms:.0f}",
            *(text for rival in (jpeg, webp) for text in (f"{rival.size:,}", f"{rival.psnr:.2f}")),
        )
    return table


def _pillow_bytes(image: Image.Image, format: str, quality: int) -> bytes:
    options: dict[str, Any] = {"optimize": True, "subsampling": "4:2:0"} if format == "JPEG" else {"method": 4}
    if image.mode == "L":
        options.pop("subsampling", None)
    file = io.BytesIO()
    image.save(file, format, quality=quality, **options)
    return file.getvalue()


def _best_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


if __name__ == "__main__":
    main(prog_name="python -m basic_runtime.demo")
