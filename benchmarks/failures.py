"""What the bundled model does badly: pictures unlike its training photos, beside JPEG and WebP files of the same size,
and what the encoder makes of them at that size without an effort and with the highest. (1 is the default.)

    python benchmarks/failures.py [-o docs/results/failures.jpg] [--quality 50] [--level 7]

Draws its pictures itself (text, a screen with windows, a cartoon, noise), so that they may lie in the repository.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from basic_runtime.codec import Codec
from basic_runtime.definitions import MAX_EFFORT
from basic_runtime.demo import code_with_codec, code_with_pillow, side_by_side
from basic_runtime.metrics import bpp, psnr

Pixels = NDArray[np.uint8]

WIDTH, HEIGHT = 512, 384
SENTENCE = "The quick brown fox jumps over the lazy dog while 0123456789 hungry wolves sleep. "


def text() -> Pixels:
    """Black print on white, in sizes from 9 to 22 pixels."""
    page = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(page)
    top = 6
    for number, size in enumerate((22, 18, 15, 13, 12, 11, 10, 9) * 3):
        if top + size > HEIGHT:
            break
        draw.text((8, top), (SENTENCE * 3)[number * 5 :], "black", font=ImageFont.load_default(size))
        top += size + 5
    return np.asarray(page)


def screen() -> Pixels:
    """Windows with title bars, one-pixel lines and small coloured print."""
    page = Image.new("RGB", (WIDTH, HEIGHT), "#2b5b84")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(11)
    light, dark = ("#c01010", "#106010", "#1010c0", "#404040"), ("#f92672", "#a6e22e", "#66d9ef")
    for left, top, colour, inks in ((20, 20, "#ffffff", light), (210, 90, "#1e1e1e", dark)):
        draw.rectangle((left, top, left + 270, top + 250), colour, "#101010")
        draw.rectangle((left, top, left + 270, top + 20), "#d0d0d0", "#101010")
        draw.text((left + 8, top + 3), "report.txt - Editor", "black", font=font)
        for row in range(14):
            line = top + 28 + 15 * row
            words = f"{row:3d}  {SENTENCE[row * 3 : row * 3 + 36]}"
            draw.text((left + 8, line), words, inks[row % len(inks)], font=font)
            draw.line((left, line + 14, left + 270, line + 14), "#808080")
    return np.asarray(page)


def cartoon() -> Pixels:
    """Flat colours inside black outlines."""
    page = Image.new("RGB", (WIDTH, HEIGHT), "#8fd3ff")
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 260, WIDTH, HEIGHT), "#57b947")
    draw.ellipse((390, 30, 470, 110), "#ffd83b", "black", 4)
    draw.rectangle((60, 170, 220, 310), "#ff9f68", "black", 4)
    draw.polygon([(40, 175), (140, 90), (240, 175)], "#c43c2f", "black", 4)
    draw.rectangle((120, 230, 165, 310), "#6b3f1d", "black", 4)
    draw.ellipse((300, 140, 420, 260), "#ffe0bd", "black", 4)
    for x in (335, 375):
        draw.ellipse((x, 180, x + 14, 200), "black")
    draw.arc((330, 190, 392, 240), 20, 160, "#b00020", 5)
    for x in range(10, WIDTH, 24):
        draw.line((x, HEIGHT - 10, x + 6, HEIGHT - 40), "black", 2)
    return np.asarray(page)


def noise() -> Pixels:
    """Independent uniform values in each channel."""
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


PICTURES: dict[str, Callable[[], Pixels]] = {"text": text, "screen": screen, "cartoon": cartoon, "noise": noise}


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default="docs/results/failures.jpg")
@click.option("-q", "--quality", default=50, show_default=True)
@click.option("--level", default=7, show_default=True)
def main(output: Path, quality: int, level: int) -> None:
    """Print a Markdown table and write the pictures side by side."""
    codec = Codec()
    sheets = []
    efforts = f"effort 0 | effort 1 | effort {MAX_EFFORT}"
    click.echo(f"| {codec.bundle.name}, level {level} | bpp | {efforts} | JPEG | WebP |")
    click.echo("|---|---|---|---|---|---|---|")
    for name, draw in PICTURES.items():
        pixels = draw()
        ours = code_with_codec(codec, pixels, quality, level)
        rivals = [code_with_pillow(kind, pixels, ours.size) for kind in ("JPEG", "WEBP")]
        sheets.append(side_by_side(pixels, [ours, *rivals]))
        rate = bpp(ours.size, pixels.shape[1], pixels.shape[0])
        files = [codec.encode_within(pixels, ours.size, level=level, effort=effort) for effort in (0, MAX_EFFORT)]
        without, most = (psnr(pixels, codec.decode(data)) for data in files)
        values = (without, ours.psnr, most, *(rival.psnr for rival in rivals))
        click.echo(f"| {name} | {rate:.2f} | {' | '.join(f'{value:.1f}' for value in values)} |")
    page = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        page.paste(sheet, (0, top))
        top += sheet.height
    page.resize((page.width // 2, page.height // 2), Image.Resampling.LANCZOS).save(output, quality=88, optimize=True)


if __name__ == "__main__":
    main()
