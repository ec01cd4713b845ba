"""Makes the codec that a command's options ask for."""

from __future__ import annotations

from dataclasses import replace

from basic_runtime.codec import Codec
from basic_runtime.errors import BundleError
from basic_runtime.limits import DEFAULT_LIMITS, Limits


def make_limits(max_pixels: int | None) -> Limits:
    """The default limits, but for the number of pixels if one is given."""
    return DEFAULT_LIMITS if max_pixels is None else replace(DEFAULT_LIMITS, max_pixels=max_pixels)


def make_codec(
    bundle: str | None, engine: str, threads: int | None, level: int | None, max_pixels: int | None = None
) -> Codec:
    """The codec, with the graphs of no level loaded yet.

    Raises BundleError if the bundle has no such level, and BundleError, EngineError or MissingExtraError as
    `Codec` does.
    """
    codec = Codec(bundle, engine, threads, make_limits(max_pixels))
    last = len(codec.bundle.manifest.levels) - 1
    if level is not None and level > last:
        raise BundleError(
            f"{codec.bundle.path}: has levels 0 to {last}, not {level}: choose one with --level"
        )
    return codec
