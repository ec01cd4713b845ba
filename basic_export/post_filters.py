"""Fits the filters of decoded pixels (`basic_runtime.post_filter`), one for each g_s, to decoded photos."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import post_filter
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.metrics import psnr
from basic_runtime.picture import Pixels
from basic_runtime.post_filter_fit import Moments, fitted
from basic_runtime.quality import quality_of_step

STEPS = (0, 21, 42, 63)
"""Quality steps at which filters are fitted; between them weights change little, and linearly."""

LEAST_GAIN = 0.1
"""dB that a filter must bring photos that it was not fitted to, on average, to be worth its time."""


def filters_of(
    bundle: Bundle,
    pictures: Sequence[Pixels],
    progress: Callable[[str], None] = lambda _: None,
    graphs: Collection[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """For each g_s whose pixels are the better for a filter, by its id, the manifest's "filter".

    pictures: uint8 (H, W, 3). Every other one is for fitting, the rest for the decision; of fewer than two, none is.
    progress is told which g_s is next; graphs: ids, if only these are asked for.
    """
    found: dict[str, dict[str, Any]] = {}
    if len(pictures) < 2:
        return found
    codec = Codec(bundle)
    levels = {spec.g_s: number for number, spec in reversed(list(enumerate(bundle.manifest.levels)))}
    for graph, level in sorted(levels.items(), key=lambda item: item[1]):
        if graphs is not None and graph not in graphs:
            continue
        progress(f"filter of what g_s gives, width {bundle.graph(graph).width}")
        weights, gains = [], []
        for step in STEPS:
            quality = quality_of_step(step)
            files = [codec.encode(picture, quality=quality, level=level, effort=0) for picture in pictures]
            decoded = [codec.decode(data) for data in files]
            pairs = list(zip(pictures, decoded, strict=True))
            weights.append(fitted(_moments(pairs[::2])))
            gains += [_gain(original, pixels, weights[-1]) for original, pixels in pairs[1::2]]
        if np.mean(gains) >= LEAST_GAIN:
            found[graph] = {"steps": list(STEPS), "weights": [entry.tobytes().hex() for entry in weights]}
    return found


def _moments(pairs: Sequence[tuple[Pixels, Pixels]]) -> Moments:
    """Those of pictures and what was decoded of them, each counting by the inverse of its error: decibels count."""
    total = Moments(3)
    for original, decoded in pairs:
        found = Moments(3)
        found.add(original, decoded)
        error = max(1.0, float(np.square(original.astype(np.float32) - decoded).mean()))
        total.features += found.features / error
        total.errors += found.errors / error
    return total


def _gain(original: Pixels, decoded: Pixels, weights: NDArray[np.int8]) -> float:
    filtered = decoded.copy()
    post_filter(filtered, weights)
    return psnr(original, filtered) - psnr(original, decoded)
