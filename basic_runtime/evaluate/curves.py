"""Turns rows into curves, and curves into BD-rates."""

from __future__ import annotations

import json
import statistics
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import numpy as np

from basic_runtime.errors import MissingExtraError
from basic_runtime.evaluate.measure import Row

KODAK_NAMES = {f"kodim{number:02d}" for number in range(1, 25)}

#: The most that a picture counts, in dB: one without any error would make every mean infinite.
MOST_PSNR = 99.0

#: Curves that share less of the quality axis than this are marked in reports.
SHORT_OVERLAP = 0.5

METRICS = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}


@dataclass(frozen=True)
class Curve:
    """Means over pictures at each quality, in order of rate; times are nan for published curves."""

    name: str
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]
    ms_ssim: tuple[float, ...]
    encode_ms: float = float("nan")
    decode_ms: float = float("nan")

    def quality(self, metric: str) -> np.ndarray:
        """PSNR in dB, or MS-SSIM as -10 log10(1 - MS-SSIM)."""
        if metric == "psnr":
            return np.array(self.psnr)
        return np.asarray(-10 * np.log10(np.maximum(1 - np.array(self.ms_ssim), 1e-9)))


def curves(rows: Iterable[Row]) -> list[Curve]:
    """One curve per codec and level: mean bpp and mean quality over pictures, as the field does, but no picture's PSNR
    counts more than `MOST_PSNR`; median times."""
    grouped: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        grouped.setdefault(row.setting.curve, {}).setdefault(row.quality, []).append(row)
    found = []
    for name, by_quality in grouped.items():
        in_order = sorted(by_quality.values(), key=lambda of: _mean(of, "bpp"))
        found.append(
            Curve(
                name,
                bpp=tuple(_mean(of, "bpp") for of in in_order),
                psnr=tuple(statistics.fmean(min(row.psnr, MOST_PSNR) for row in of) for of in in_order),
                ms_ssim=tuple(_mean(of, "ms_ssim") for of in in_order),
                encode_ms=statistics.median(row.encode_ms for of in in_order for row in of),
                decode_ms=statistics.median(row.decode_ms for of in in_order for row in of),
            )
        )
    return found


def _mean(rows: Iterable[Row], key: str) -> float:
    return statistics.fmean(getattr(row, key) for row in rows)


def published_kodak(rows: Iterable[Row]) -> list[Curve]:
    """Curves of the literature, if the rows are of the 24 Kodak photos and no others."""
    names = {row.picture.rsplit(".", 1)[0] for row in rows}
    if names != KODAK_NAMES:
        return []
    stored: dict[str, Any] = json.loads(files(__package__).joinpath("kodak.json").read_text("utf-8"))
    return [
        Curve(name, tuple(curve["bpp"]), tuple(curve["psnr"]), tuple(curve["ms_ssim"]))
        for name, curve in stored["curves"].items()
    ]


@dataclass(frozen=True)
class BdRate:
    """Bjøntegaard delta: percent of rate at equal quality, negative is smaller files.

    overlap: share of the anchor's quality axis that both curves cover.
    """

    percent: float
    overlap: float


def require_packages() -> None:
    """Raises MissingExtraError if the package that computes BD-rates is not installed."""
    if find_spec("bjontegaard") is None:
        raise MissingExtraError.of("evaluating a bundle", "evaluate")


def bd_rate(anchor: Curve, curve: Curve, metric: str) -> BdRate | None:
    """BD-rate of a curve against an anchor, or None if they are no curves or share no qualities.

    Piecewise cubic interpolation over the shared range (G. Bjøntegaard, VCEG-M33 2001; the package `bjontegaard`).
    """
    from bjontegaard import bd_rate as compute

    one, two = anchor.quality(metric), curve.quality(metric)
    if not all(len(q) > 1 and (np.diff(q) > 0).all() for q in (one, two)):
        return None  # a point, a curve without this metric, or one whose quality falls with rate
    shared = min(one.max(), two.max()) - max(one.min(), two.min())
    if shared <= 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the overlap, which is reported
        percent = compute(anchor.bpp, one, curve.bpp, two, method="pchip", require_matching_points=False)
    return BdRate(float(percent), float(shared / (one.max() - one.min()))) if np.isfinite(percent) else None


def per_picture(rows: Iterable[Row], anchor: str, curve: str, metric: str) -> float | None:
    """Median over pictures of a curve's BD-rate against an anchor in percent; None if none can be had."""
    by_picture: dict[str, list[Row]] = {}
    for row in rows:
        by_picture.setdefault(row.picture, []).append(row)
    found = []
    for of in by_picture.values():
        named = {c.name: c for c in curves(of)}
        if anchor in named and curve in named and len(named[curve].bpp) > 1:
            delta = bd_rate(named[anchor], named[curve], metric)
            if delta is not None:
                found.append(delta.percent)
    return statistics.median(found) if found else None
