"""Makes the codec that a command's options ask for."""

from __future__ import annotations

from dataclasses import replace

from basic_runtime.codec import Codec
from basic_runtime.limits import DEFAULT_LIMITS, Limits


def make_limits(max_pixels: int | None) -> Limits:
    """The default limits, but for the number of pixels if one is given."""
    return DEFAULT_LIMITS if max_pixels is None else replace(DEFAULT_LIMITS, max_pixels=max_pixels)


def make_codec(bundle: str | None, engine: str, threads: int | None, max_pixels: int | None = None) -> Codec:
    """Raises BundleError, EngineError or MissingExtraError, as `Codec` does."""
    return Codec(bundle, engine, threads, make_limits(max_pixels))
