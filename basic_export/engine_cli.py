"""Options and steps of `basic-export` that build engines for NVIDIA GPUs. Imports nothing heavy before they run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from basic_export.options import GOLDEN_SIDE, PICTURE_SIZES
from basic_runtime.cli.options import PictureSize
from basic_runtime.definitions import MANIFEST
from basic_runtime.errors import FileError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console

    from basic_export.engines import Built, EngineReport
    from basic_runtime.engines.engine_set import Sizes
    from basic_runtime.engines.tensorrt_library import Library

_SMALLEST, _TYPICAL, _LARGEST = (f"{width}x{height}" for width, height in PICTURE_SIZES)


class _Capabilities(click.ParamType):
    """Compute capabilities like 75,86 or 7.5,8.6 as a tuple of integers."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(re.fullmatch(r"\d{1,2}\.\d|\d{2,3}", part) for part in parts):
            self.fail(f"{value!r} is no list of compute capabilities like 75,86,120", param, ctx)
        return tuple(int(part.replace(".", "")) for part in parts)


@dataclass(frozen=True)
class EngineRequest:
    """What the engine options ask for."""

    library: Library
    capabilities: tuple[int, ...]
    precision: str
    sizes: Sizes


_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["tensorrt-rtx", "tensorrt"]),
        help="Build engines for NVIDIA GPUs, too (docs/gpu.md).",
    ),
    click.option(
        "--compute-capability",
        "capabilities",
        type=_Capabilities(),
        metavar="LIST",
        help="GPUs to build for, like 75,86,89,120. [default: all from 8.0 on; tensorrt: this machine's]",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp16", "fp32"]),
        default="fp16",
        show_default=True,
        help="Of g_a, h_a and g_s; the entropy path is always float32.",
    ),
    click.option("--min-size", type=PictureSize(), default=_SMALLEST, show_default=True, help="Smallest picture."),
    click.option("--opt-size", type=PictureSize(), default=_TYPICAL, show_default=True, help="To be tuned for."),
    click.option(
        "--max-size",
        type=PictureSize(),
        default=_LARGEST,
        show_default=True,
        help="Largest picture in one piece; larger ones run in tiles.",
    ),
)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets them as keywords for `request_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def request_of(
    context: click.Context,
    engine: str | None,
    capabilities: tuple[int, ...] | None,
    precision: str,
    min_size: tuple[int, int],
    opt_size: tuple[int, int],
    max_size: tuple[int, int],
) -> EngineRequest | None:
    """The request, or None without --engine. Raises click.UsageError for options that contradict each other."""
    if engine is None:
        given = given_options(context, ("capabilities", "precision", "min_size", "opt_size", "max_size"))
        if given:
            raise click.UsageError(f"{given[0]} is about engines: add --engine")
        return None
    for low, middle, high in zip(min_size, opt_size, max_size, strict=True):
        if not low <= middle <= high:
            raise click.UsageError("--min-size, --opt-size and --max-size must not decrease, in width or height")
    if max(min_size) > GOLDEN_SIDE or min(max_size) < GOLDEN_SIDE:
        raise click.UsageError(f"engines must take the golden vectors' {GOLDEN_SIDE}x{GOLDEN_SIDE} pixels")
    from basic_runtime.engines.engine_set import Sizes
    from basic_runtime.engines.tensorrt_library import LIBRARIES

    sizes = Sizes(min_size, opt_size, max_size)
    return EngineRequest(LIBRARIES[engine], capabilities or (), precision, sizes)


def given_options(context: click.Context, names: tuple[str, ...]) -> list[str]:
    """Those of the parameters `names` that the user wrote, as they are written."""
    default = click.core.ParameterSource.DEFAULT
    given = {name for name in names if context.get_parameter_source(name) != default}
    return [parameter.opts[-1] for parameter in context.command.params if parameter.name in given]


def bundle_of(source: Path) -> Path | None:
    """The bundle that `source` is or names, or None. Raises BundleError for what is no name."""
    from basic_runtime.bundle import find_bundle

    found = find_bundle(source)
    return found if (found / MANIFEST).is_file() else None


def require_builder(request: EngineRequest) -> list[str]:
    """Targets of a request, after notices on standard error. Raises MissingExtraError or EngineError for a library
    that is not there, ExportError for targets that it does not build for."""
    if find_spec("onnx") is None:
        raise MissingExtraError.of("building engines", request.library.name)
    from basic_export.engines import choose_targets

    targets, notices = choose_targets(request.library, request.capabilities)
    for notice in notices:
        click.echo(f"basic-export: note: {notice}", err=True)
    return targets


def build(request: EngineRequest, path: Path, targets: list[str], quiet: bool) -> EngineReport:
    """Build what a request asks for in the bundle `path`, and show how far that is unless `quiet`."""
    from basic_export.engines import build_engines
    from basic_runtime.bundle import Bundle
    from basic_runtime.cli.progress import progress_bar

    bundle = Bundle(path)
    with progress_bar(quiet, lines=True) as advance:
        return build_engines(
            bundle, request.library, targets, advance, precision=request.precision, sizes=request.sizes
        )


def copy_of(bundle: Path, output: Path | None) -> Path:
    """Where the engines of `bundle` go: into a copy of it, if an output is named. Raises FileError."""
    from basic_runtime.bundle import MODELS_FOLDER

    if output is None and bundle.parent == MODELS_FOLDER:
        raise click.UsageError(f"{bundle.name} is the installed package's: name a copy with -o")
    if output is None:
        return bundle
    from basic_export.engines import copy_bundle

    if output.exists():
        raise FileError(
            f"{output}: exists already; leave -o out to add engines to the bundle itself, or choose another place"
        )
    copy_bundle(bundle, output)
    return output


def engine_values(report: EngineReport) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "bundle": str(report.bundle),
        "library": report.library,
        "version": report.version,
        "sizes": asdict(report.sizes),
        "seconds": round(report.seconds, 2),
        "engines": [asdict(engine) for engine in report.engines],
    }


def show_engines(report: EngineReport, console: Console) -> None:
    """Print the report: a row per target and transform."""
    from rich.table import Table

    from basic_runtime.manifest import TRANSFORMS

    table = Table(title=f"Engines for {report.library} {report.version}", title_justify="left")
    for name in ("target", "transform", "precision", "engines", "MB", "seconds", "from cache"):
        table.add_column(name, justify="right")
    groups: dict[tuple[str, str, str], list[Built]] = {}
    for engine in report.engines:
        groups.setdefault((engine.target, engine.transform, engine.precision), []).append(engine)
    targets = list(dict.fromkeys(engine.target for engine in report.engines))
    for key in sorted(groups, key=lambda item: (targets.index(item[0]), TRANSFORMS.index(item[1]))):
        members = groups[key]
        table.add_row(
            *key,
            str(len(members)),
            f"{sum(e.bytes for e in members) / 1e6:.1f}",
            f"{sum(e.seconds for e in members):.1f}",
            str(sum(e.cached for e in members)),
        )
    console.print(table)
    total = sum(engine.bytes for engine in report.engines) / 1e6
    console.print(
        f"[bold]{report.bundle}[/]: {len(report.engines)} engines, {total:.1f} MB, {report.seconds:.0f} s",
        highlight=False,
    )
