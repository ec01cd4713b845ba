"""`basic-run evaluate`."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from basic_runtime.cli.lines import tell_error, tell_note
from basic_runtime.cli.options import (
    LevelList,
    bundle_option,
    check_named,
    effort_option,
    engine_options,
    limit_option,
)

if TYPE_CHECKING:
    from basic_runtime.bundle import Bundle
    from basic_runtime.evaluate.measure import Options, Results, Setting
    from basic_runtime.limits import Limits


class _Numbers(click.ParamType):  # type: ignore[type-arg]  # which it has since click 8.4
    name = "Q,Q,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.isdecimal() and 1 <= int(part) <= 100 for part in parts):
            self.fail(f"{value!r} is no list of qualities from 1 to 100 like 10,50,90", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


def _output(ctx: click.Context, parameter: click.Parameter, given: str | None) -> Path | None:
    """The name of all results, without the extension of any."""
    from basic_runtime.errors import FileError

    if given is None:
        return None
    if given.endswith("/") or Path(given).is_dir():
        raise FileError(f"{given}: is a folder: name the results in it, like -o {Path(given) / 'results'}")
    output = Path(given)
    return output.with_suffix("") if output.suffix in (".csv", ".json", ".png") else output


def _folder(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    check_named("FOLDER", value)
    return Path(value)


@click.command(short_help="Measure rate, distortion and time on a folder of pictures.")
@click.argument("folder", callback=_folder)
@click.option("--levels", type=LevelList(), help="Such as 0,3,5-7 (default: all).")
@click.option("--qualities", type=_Numbers(), help="Default: 1,15,29,43,57,72,86,100.")
@effort_option("1")
@click.option("--codecs", help="Others to compare with, of jpeg,webp,avif,jpegxl, or none (default: all there are).")
@click.option(
    "-o", "--output", metavar="OUTPUT", callback=_output, help="Writes OUTPUT.csv, .json and .png (default: nothing)."
)
@bundle_option
@engine_options
@limit_option
@click.option("--jobs", type=click.IntRange(1, 1024), default=1, show_default=True, help="Pictures at a time.")
@click.option("--reps", type=click.IntRange(1, 100), default=1, show_default=True, help="Codings of each; best time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    folder: Path,
    levels: tuple[int, ...] | None,
    qualities: tuple[int, ...] | None,
    effort: int | None,
    codecs: str | None,
    output: Path | None,
    bundle: str | None,
    engine: str,
    precision: str | None,
    threads: int | None,
    max_pixels: int | None,
    jobs: int,
    reps: int,
    as_json: bool,
) -> None:
    """Code every picture of FOLDER at several levels and qualities, beside JPEG, WebP, AVIF and JPEG XL.

    \b
    basic-run evaluate kodak -o results/kodak --levels 0,3,7

    Sizes are those of real files, PSNR and MS-SSIM those of 8-bit pixels. An evaluation that was stopped goes on
    when it is called again with the same -o. Files that cannot be read, or that another codec cannot
    hold, are left out, and the exit status is then 1.
    """
    from basic_runtime.bundle import Bundle
    from basic_runtime.cli.make_codec import check_level, make_limits
    from basic_runtime.evaluate import measure
    from basic_runtime.evaluate.curves import require_packages
    from basic_runtime.files import make_folder

    require_packages()
    if output is not None:
        _check_results(output)
    opened = Bundle(bundle)
    chosen = levels if levels is not None else tuple(range(len(opened.manifest.levels)))
    check_level(opened, max(chosen), "--levels")
    limits = make_limits(max_pixels)
    rivals = _rivals(codecs)
    pictures, left_out = _comparable(folder, output, rivals, limits)
    effort = opened.default_effort if effort is None else effort
    model = f"{opened.name}:{opened.model_id}" + (f" effort {effort}" if effort else "")
    model += f" {precision}" if precision else ""
    wanted = measure.settings(model, chosen, qualities or measure.QUALITIES, rivals)
    if output is not None:
        make_folder(output.parent)
    results = measure.Results(None if output is None else _with_extension(output, ".csv"))
    options = measure.Options(bundle, engine, threads, jobs, reps, effort, precision, limits)
    _measure(pictures, wanted, results, options)
    _report([path.name for path in pictures], wanted, results, opened, output, as_json)
    if left_out:
        click.get_current_context().exit(1)


def _check_results(output: Path) -> None:
    """Raises FileError for a file that has the name of a result and is none: each is written after the one before."""
    from basic_runtime.errors import FileError

    for before, path in pairwise(_with_extension(output, extension) for extension in (".csv", ".json", ".png")):
        if path.exists() and not before.exists():
            raise FileError(
                f"{path}: exists already, and is no result of an evaluation, as there is no {before}: name another -o"
            )


def _comparable(folder: Path, output: Path | None, rivals: list[str], limits: Limits) -> tuple[list[Path], int]:
    """The pictures that all codecs take, but for the plot of the output, and how many are left out, which is said at
    once.

    Raises ImageError if that leaves none.
    """
    from basic_runtime.errors import ImageError
    from basic_runtime.evaluate import measure

    plot = None if output is None else _with_extension(output, ".png")
    pictures, errors = measure.comparable(measure.list_pictures(folder, plot), rivals, limits)
    if not pictures:
        raise ImageError(f"{folder}: no picture in this folder can be compared, as of the first: {errors[0]}")
    for error in errors:
        tell_error(f"{error}; it is left out")
    return pictures, len(errors)


def _rivals(codecs: str | None) -> list[str]:
    from basic_runtime.evaluate.measure import available_rivals

    available = available_rivals()
    if codecs is None:
        return available
    names = {name.lower().replace(" ", ""): name for name in available}
    wanted = [part for part in codecs.lower().split(",") if part]
    if wanted == ["none"]:
        return []
    if not wanted:
        raise click.UsageError(f"--codecs names none: name some of {', '.join(names)}, or say none")
    for part in wanted:
        if part not in names:
            raise click.UsageError(
                f"--codecs: {part!r} is none of {', '.join(names)} (or is not installed), nor none alone"
            )
    return [names[part] for part in wanted]


def _with_extension(output: Path, extension: str) -> Path:
    """The name with an extension behind it: a dot in the name, as in v1.2, is part of the name."""
    return output.with_name(output.name + extension)


def _measure(pictures: list[Path], wanted: list[Setting], results: Results, options: Options) -> None:
    """Measure everything, with a progress bar on a terminal."""
    from basic_runtime.cli.progress import tracked
    from basic_runtime.errors import MissingExtraError
    from basic_runtime.evaluate.measure import has_ms_ssim, measure

    if not has_ms_ssim():
        tell_note(str(MissingExtraError.of("MS-SSIM", "ms-ssim")))
    missing = sum((setting, path.name) not in results.rows for path in pictures for setting in wanted)
    rows = measure(pictures, wanted, results, options)
    for _ in tracked(rows, "coding", missing):
        pass


def _report(
    names: list[str],
    wanted: list[Setting],
    results: Results,
    bundle: Bundle,
    output: Path | None,
    as_json: bool,
) -> None:
    from importlib.util import find_spec

    from basic_runtime.evaluate import curves, report
    from basic_runtime.files import write_bytes

    rows = [results.rows[setting, name] for name in names for setting in wanted]
    values = report.summary(rows, curves.curves(rows), curves.published_kodak(rows), bundle)
    text = json.dumps(values, indent=1, allow_nan=False)
    if output is not None:
        write_bytes(_with_extension(output, ".json"), text.encode() + b"\n", overwrite=True)
        if find_spec("matplotlib") is not None:
            report.plot(values, _with_extension(output, ".png"))
    if as_json:
        click.echo(text)
        return
    from rich.console import Console

    # A file or a pipe has no width of its own to keep to.
    Console(width=None if sys.stdout.isatty() else 120).print(report.table(values), highlight=False)
