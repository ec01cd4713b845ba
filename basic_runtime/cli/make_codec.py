"""Makes the codec that the options of a command ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import click

from basic_runtime.bundle import Bundle
from basic_runtime.cli.options import AUTO, DEFAULT_BUDGET_MS
from basic_runtime.codec import Codec
from basic_runtime.errors import BundleError
from basic_runtime.limits import DEFAULT_LIMITS, Limits


def make_limits(max_pixels: int | None) -> Limits:
    """The default limits, but for the number of pixels if one is given."""
    return DEFAULT_LIMITS if max_pixels is None else replace(DEFAULT_LIMITS, max_pixels=max_pixels)


def check_level(bundle: Bundle, index: int, option: str) -> None:
    """Raises BundleError, which names the option that asked, if there is no level `index`."""
    last = len(bundle.manifest.levels) - 1
    if index > last:
        raise BundleError(f"{bundle.path}: has levels 0 to {last}, not {index}: choose another with {option}")


def make_codec(
    bundle: str | None,
    engine: str,
    threads: int | None,
    level: int | str | None,
    max_pixels: int | None = None,
    precision: str | None = None,
) -> Codec:
    """The codec, with the graphs of no level loaded yet.

    Raises BundleError if the bundle has no such level, and BundleError, EngineError or MissingExtraError as
    `Codec` does.
    """
    codec = Codec(bundle, engine, threads=threads, precision=precision, limits=make_limits(max_pixels))
    if isinstance(level, int):
        check_level(codec.bundle, level, "--level")
    return codec


class Choice(NamedTuple):
    """A level and an effort; None for the default."""

    level: int | None
    effort: int | None


ChoiceOf = Callable[[int, int], Choice]
"""What to take for a picture of this width and height."""


def chooser(
    codec: Codec, level: int | str | None, budget_ms: float | None, direction: str, effort: int | None = None
) -> ChoiceOf:
    """What --level, --budget-ms and --effort ask for. direction: "encode" or "decode", whose time counts.

    Raises UsageError for a level with a budget, and for a budget with an effort whose time is not measured,
    MachineProfileError if this machine has not been measured.
    """
    if budget_ms is None and level != AUTO:
        return lambda width, height: Choice(level if isinstance(level, int) else None, effort)
    if isinstance(level, int):
        raise click.UsageError("--budget-ms picks the level: leave --level out, or say auto")
    from basic_runtime import machine

    if effort is not None and effort > machine.HIGHEST_EFFORT:
        option = "--level auto" if budget_ms is None else "--budget-ms"
        raise click.UsageError(
            f"{option} knows the time of --effort 0 to {machine.HIGHEST_EFFORT}: take one of these, or name a --level"
        )
    found = machine.load(codec.bundle, codec.backend)
    budget = DEFAULT_BUDGET_MS if budget_ms is None else budget_ms

    def choose(width: int, height: int) -> Choice:
        row = found.within(direction, width, height, budget, effort)
        return Choice(row.level, row.effort)

    return choose
