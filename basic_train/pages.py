"""Drawn pages of print, screens, charts and cartoons, which are trained on beside photos.

A codec that has seen photos alone spoils print. Nobody's pictures are needed: fonts are those of Matplotlib. Pillow's
own font is left to `benchmarks/failures.py`, so that it shows nothing that was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from basic_runtime.errors import FileError
from basic_train.recipe import PAGE_SIDE as SIDE

#: Pages that a run draws at its start, 8 seconds' work, each as often as the next.
PAGES = 160

SYLLABLES = (  # noqa: SIM905 (a list would take fifteen lines)
    "a an ar be ca co da de di do e en er es fa fi ga go ha he hi ho i in is it jo ka la le li lo ma me mi mo na ne "
    "no o on or pa pe po qu ra re ri ro sa se si so sta ste ta te the ti to tra u un ur va ve vi wa we wi xy ye za zo"
).split()

Colour = tuple[int, int, int]


@cache
def _fonts() -> list[str]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    kinds = ("DejaVuSans*", "DejaVuSerif*", "STIXGeneral*", "cmr10*", "cmss10*", "cmtt10*", "cmb10*")
    found = sorted(str(path) for kind in kinds for path in folder.glob(f"{kind}.ttf"))
    if not found:
        raise FileError(f"{folder}: Matplotlib's fonts are missing: pip install --force-reinstall matplotlib")
    return found


def _font(rng: np.random.Generator, smallest: float = 8, largest: float = 44) -> ImageFont.FreeTypeFont:
    """A random font; small sizes are the likelier."""
    size = smallest * (largest / smallest) ** (rng.random() ** 1.5)
    return ImageFont.truetype(_fonts()[rng.integers(len(_fonts()))], round(size))


def _word(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.12:
        return f"{rng.integers(10 ** rng.integers(1, 7)):,}"
    word = "".join(SYLLABLES[i] for i in rng.integers(len(SYLLABLES), size=rng.integers(1, 5)))
    word = word.capitalize() if kind < 0.3 else word.upper() if kind < 0.36 else word
    return word + str(rng.choice(list(",.;:!?-)'\""))) if kind > 0.85 else word


def _line(rng: np.random.Generator, length: int) -> str:
    words = ""
    while len(words) < length:
        words += _word(rng) + " "
    return words


def _colour(rng: np.random.Generator, low: int = 0, high: int = 256) -> Colour:
    """Gray in two of five draws, as most of what is printed."""
    if rng.random() < 0.4:
        return (int(rng.integers(low, high)),) * 3
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue


def _paper_and_ink(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Black on white in a third of all draws; else light and dark, one way or the other."""
    if rng.random() < 0.35:
        return (255, 255, 255), (0, 0, 0)
    light, dark = _colour(rng, 170), _colour(rng, 0, 110)
    return (light, dark) if rng.random() < 0.6 else (dark, light)


def _page(colour: Colour, side: int = SIDE) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    page = Image.new("RGB", (side, side), colour)
    return page, ImageDraw.Draw(page)


def _box(rng: np.random.Generator, smallest: float, largest: float, side: int = SIDE) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a rectangle, partly outside perhaps; smallest, largest: shares of the side."""
    left, top = rng.integers(-side // 10, side * 9 // 10, 2).tolist()
    width, height = (side * rng.uniform(smallest, largest, 2)).astype(int).tolist()
    return left, top, left + max(4, width), top + max(4, height)


def _paragraph(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    box: tuple[int, int, int, int],
    font: ImageFont.FreeTypeFont,
    ink: Colour,
) -> None:
    """Lines of one font from a box's top to its bottom."""
    left, top, right, bottom = box
    step = max(9.0, font.size * rng.uniform(1.05, 1.7))
    length = max(2, int((right - left) / font.size * 1.7))
    while top + step <= bottom:
        text = _line(rng, int(length * rng.uniform(0.3, 1)) if rng.random() < 0.15 else length)
        while len(text) > 1 and draw.textlength(text, font) > right - left:
            text = text[:-2]
        draw.text((left, top), text, ink, font)
        top += round(step)


def print_page(rng: np.random.Generator) -> Image.Image:
    """Columns of paragraphs in changing fonts, some of them without anti-aliasing."""
    paper, ink = _paper_and_ink(rng)
    page, draw = _page(paper)
    draw.fontmode = "1" if rng.random() < 0.15 else "L"
    columns = int(rng.integers(1, 4))
    width = SIDE // columns
    for column in range(columns):
        top = int(rng.integers(2, 20))
        while top < SIDE - 20:
            bottom = top + int(rng.integers(20, 260))
            colour = ink if rng.random() < 0.75 else _paper_and_ink(rng)[1]
            _paragraph(draw, rng, (column * width + 8, top, (column + 1) * width - 6, bottom), _font(rng), colour)
            if rng.random() < 0.3:
                draw.line((column * width + 8, bottom, (column + 1) * width - 8, bottom), ink, int(rng.integers(1, 4)))
            top = bottom + int(rng.integers(2, 30))
    return page


def _window(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """A frame with a title bar, ruled lines of small print, and a row of buttons."""
    left, top, right, bottom = _box(rng, 0.15, 0.8)
    paper, ink = _paper_and_ink(rng)
    edge, bar = _colour(rng, 0, 160), _colour(rng)
    draw.rectangle((left, top, right, bottom), paper, edge, int(rng.integers(1, 3)))
    height = int(rng.integers(14, 32))
    draw.rectangle((left, top, right, min(bottom, top + height)), bar, edge)
    bar_ink = (0, 0, 0) if sum(bar) > 384 else (255, 255, 255)
    draw.text((left + 8, top + 2), _line(rng, 16), bar_ink, _font(rng, 9, height - 4))
    font, line = _font(rng, 8, 18), top + height + 6
    step = round(font.size * rng.uniform(1.2, 2))
    ruled, inks = rng.random() < 0.4, [ink] + [_colour(rng, 0, 130 if sum(paper) > 384 else 256) for _ in range(3)]
    while line + step < bottom:
        text = _line(rng, max(2, int((right - left - 12) / font.size * rng.uniform(0.4, 1.6))))
        draw.text((left + 8, line), text, inks[rng.integers(len(inks))], font)
        if ruled:
            draw.line((left, line + step - 2, right, line + step - 2), edge)
        line += step
    for x in range(left + 8, right - 40, 64) if rng.random() < 0.5 else ():
        draw.rounded_rectangle((x, bottom - 26, x + 54, bottom - 6), 5, _colour(rng), edge)


def screen(rng: np.random.Generator) -> Image.Image:
    """Windows over each other on a plain desk or a gradient."""
    page, draw = _page(_colour(rng))
    if rng.random() < 0.4:
        page.paste(_gradient(rng))
    for _ in range(rng.integers(6, 14)):
        _window(draw, rng)
    return page


def _gradient(rng: np.random.Generator) -> Image.Image:
    """From one colour to another in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    share = (np.clip(x * np.cos(angle) + y * np.sin(angle), -0.5, 0.5) + 0.5)[..., None]
    values = share * np.array(_colour(rng)) + (1 - share) * np.array(_colour(rng))
    return Image.fromarray(np.rint(values).astype(np.uint8))


def chart(rng: np.random.Generator) -> Image.Image:
    """Axes with grids and numbers, bars and curves, or a table."""
    paper, ink = _paper_and_ink(rng)
    page, draw = _page(paper)
    for top in (0, SIDE // 2):
        for left in (0, SIDE // 2):
            box = (left + 40, top + 16, left + SIDE // 2 - 12, top + SIDE // 2 - 30)
            _diagram(draw, rng, box, ink)
    return page


def _diagram(draw: ImageDraw.ImageDraw, rng: np.random.Generator, box: tuple[int, int, int, int], ink: Colour) -> None:
    left, top, right, bottom = box
    font, grid = _font(rng, 8, 14), _colour(rng, 120, 230)
    across, down = int(rng.integers(12, 60)), int(rng.integers(14, 50))
    for x in range(left, right, across):
        draw.line((x, top, x, bottom), grid)
        draw.text((x - 6, bottom + 4), str(x // across), ink, font)
    for y in range(top, bottom, down):
        draw.line((left, y, right, y), grid)
        draw.text((left - 36, y - 6), f"{y / down:.2f}", ink, font)
    if rng.random() < 0.3:  # a table
        for y in range(top, bottom - down, down):
            draw.text((left + 4, y + 2), _line(rng, int((right - left) / font.size)), ink, font)
    elif rng.random() < 0.5:
        for x in range(left + 4, right - across, across):
            draw.rectangle((x, int(rng.integers(top, bottom)), x + across // 2, bottom), _colour(rng), ink)
    else:
        xs = np.arange(left, right, int(rng.integers(2, 14)))
        for _ in range(rng.integers(1, 5)):
            walk = np.cumsum(rng.normal(0, rng.uniform(1, 8), len(xs))) + (top + bottom) / 2
            points = np.stack([xs, np.clip(walk, top, bottom)], 1).ravel().tolist()
            draw.line(points, _colour(rng), int(rng.integers(1, 4)))
    draw.line((left, top, left, bottom, right, bottom), ink, int(rng.integers(1, 3)))


def cartoon(rng: np.random.Generator) -> Image.Image:
    """Flat shapes inside outlines; drawn at twice the size and shrunk in half of all draws."""
    factor = 2 if rng.random() < 0.5 else 1
    side = factor * SIDE
    page, draw = _page(_colour(rng), side)
    edge, width = _colour(rng, 0, 80), factor * int(rng.integers(1, 6))
    for _ in range(rng.integers(20, 90)):
        _shape(draw, rng, _box(rng, 0.02, 0.35, side), _colour(rng), edge, width if rng.random() < 0.8 else 0)
    return page.resize((SIDE, SIDE), Image.Resampling.BICUBIC) if factor > 1 else page


def _shape(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    box: tuple[int, int, int, int],
    fill: Colour,
    edge: Colour,
    width: int,
) -> None:
    left, top, right, bottom = box
    outline = edge if width else None
    kind = rng.integers(5)
    if kind == 0:
        draw.rectangle(box, fill, outline, width)
    elif kind == 1:
        draw.ellipse(box, fill, outline, width)
    elif kind == 2:
        xs, ys = rng.integers(left, right, 5), rng.integers(top, bottom, 5)
        draw.polygon(np.stack([xs, ys], 1).ravel().tolist(), fill, outline, width)
    elif kind == 3:
        draw.arc(box, int(rng.integers(360)), int(rng.integers(360)), edge, max(1, width))
    else:
        draw.text((left, top), _line(rng, 4), edge if rng.random() < 0.5 else fill, _font(rng, 14, 90))


KINDS: tuple[Callable[[np.random.Generator], Image.Image], ...] = (print_page, screen, chart, cartoon)


def draw_page(seed: int, number: int) -> np.ndarray:
    """Page `number` of a seed: uint8 (SIDE, SIDE, 3). Kinds take turns; a fifth of the pages lies on its side."""
    rng = np.random.default_rng([seed, number])
    page = np.asarray(KINDS[number % len(KINDS)](rng))
    return np.ascontiguousarray(np.rot90(page)) if rng.random() < 0.2 else page


def draw_pages(seed: int, count: int | None = None) -> list[np.ndarray]:
    """The first pages of a seed, `PAGES` unless told, uint8 (SIDE, SIDE, 3) each."""
    count = PAGES if count is None else count
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda number: draw_page(seed, number), range(count)))
