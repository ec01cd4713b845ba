"""`basic-run profile`."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from basic_runtime.cli.options import LevelList, PictureSize, bundle_option, engine_options
from basic_runtime.definitions import MAX_EFFORT
from basic_runtime.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from basic_runtime.bundle import Bundle


@click.command(short_help="Time every part of encoding and decoding.")
@click.option("--size", type=PictureSize(), default="768x512", show_default=True, help="Picture to code, as WxH.")
@click.option("--levels", type=LevelList(), help="Such as 0,3,5-7 (default: all).")
@click.option("--reps", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Runs that are timed.")
@click.option(
    "--effort", type=click.IntRange(0, MAX_EFFORT), default=0, show_default=True, help="Of the encodes that are timed."
)
@bundle_option
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--save",
    is_flag=True,
    help="Time all levels at several sizes and remember it for --level auto and --budget-ms.",
)
@click.option("--plot", metavar="PNG", help="Write a plot of the medians, too.")
@click.option("--overwrite", is_flag=True, help="Replace a plot that is there.")
def profile(
    size: tuple[int, int],
    levels: tuple[int, ...] | None,
    reps: int,
    effort: int,
    bundle: str | None,
    engine: str,
    precision: str | None,
    threads: int | None,
    as_json: bool,
    save: bool,
    plot: str | None,
    overwrite: bool,
) -> None:
    """Time each part of encoding and decoding at each level: percentiles 50, 90, 99, beside its MACs."""
    from rich.console import Console

    from basic_runtime.bundle import Bundle
    from basic_runtime.cli.make_codec import check_level
    from basic_runtime.device_profile import device_table
    from basic_runtime.engines import create_backend
    from basic_runtime.profile import check_plot, table, write_plot
    from basic_runtime.profile import profile as run

    width, height = size
    if width * height > DEFAULT_LIMITS.max_pixels:
        raise click.UsageError(f"--size {width}x{height}: more than {DEFAULT_LIMITS.max_pixels} pixels")
    opened = Bundle(bundle)
    if save:
        sized = click.get_current_context().get_parameter_source("size") != ParameterSource.DEFAULT
        if sized or levels is not None or plot is not None or effort:
            raise click.UsageError(
                "--save times all levels, at sizes and with efforts of its own: leave --size, --levels, --plot and "
                "--effort out"
            )
        _save(opened, engine, precision, threads, reps, as_json)
        return
    if levels is not None:
        check_level(opened, max(levels), "--levels")
    if plot is not None:
        check_plot(plot, overwrite)
    backend = create_backend(engine, threads, precision)
    result = run(opened, backend, width=width, height=height, levels=levels, repetitions=reps, effort=effort)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
    else:
        Console().print(table(result))
        if result.device:
            Console().print(device_table(result.device))
    if plot is not None:
        write_plot(result, plot, overwrite=overwrite)
        click.echo(f"plot: {plot}", err=as_json)


def _save(bundle: Bundle, engine: str, precision: str | None, threads: int | None, reps: int, as_json: bool) -> None:
    from basic_runtime import machine
    from basic_runtime.cli.progress import progress_bar
    from basic_runtime.engines import create_backend

    backend = create_backend(engine, threads, precision)
    machine.check_place(bundle, backend)
    with progress_bar() as show:
        found = machine.measure(bundle, backend, reps, partial(show, "timing"))
    path = machine.save(found, bundle, backend)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    for row in found.times:
        times = ", ".join(f"{ms:.0f} ms at {n / 1e6:.2f}" for n, ms in zip(row.pixels, row.ms, strict=True))
        effort = f" with effort {row.effort}" if row.direction == "encode" else ""
        click.echo(f"level {row.level} {row.direction}{effort}: {times} megapixels")
    click.echo(f"saved: {path}")
