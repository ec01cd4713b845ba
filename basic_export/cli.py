"""The command `basic-export`. Only click is imported before it runs, so that --help is quick."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from basic_export import engine_cli
from basic_export.engine_cli import EngineRequest, engine_options
from basic_export.options import LONGEST_NAME, NAME_KIND, NAME_PATTERN, Options
from basic_runtime.cli.errors import OneLineErrors
from basic_runtime.errors import MissingExtraError

if TYPE_CHECKING:
    from basic_export.export import Report

PROGRAM = "basic-export"
NEEDED = ("torch", "onnx", "onnxscript")
#: Options that make no sense for a bundle that is there already.
EXPORT_ONLY = ("levels", "name", "photos", "check_photo", "grouping", "verify", "overwrite")


class _Command(OneLineErrors):
    program = PROGRAM


def check_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(NAME_PATTERN, value):
        raise click.BadParameter(NAME_KIND)
    return value


def _of_level(context: click.Context, parameter: click.Parameter, given: str | None) -> tuple[int, Path] | None:
    """NUMBER=FILE."""
    if given is None:
        return None
    number, equals, path = given.partition("=")
    if not equals or not path or not re.fullmatch("[0-9]", number):
        raise click.BadParameter(f"{given!r} is not NUMBER=FILE, like 0=level0.safetensors")
    return int(number), Path(path)


_PATH = click.Path(path_type=Path)


@click.command(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=_PATH)
@click.option("-o", "--output", type=_PATH, metavar="BUNDLE", help="New folder for the bundle.")
@click.option("--levels", type=click.IntRange(1, 8), default=8, show_default=True, help="Complexity levels.")
@click.option(
    "--level",
    metavar="NUMBER=FILE",
    callback=_of_level,
    help="Replace a level of SOURCE, a bundle, by a net of its own: a checkpoint that began with basic-train narrow.",
)
@click.option(
    "--encoder",
    metavar="NUMBER=FILE",
    callback=_of_level,
    help="Replace the encoder of a level of SOURCE, a bundle, by that of a checkpoint that was trained on.",
)
@click.option(
    "--prune",
    type=click.FloatRange(0, 0.9),
    default=0.0,
    help="With --encoder: leave out this share of the weights of its hidden units, the least useful. [default: 0]",
)
@click.option(
    "--weight-bits",
    type=click.IntRange(1, 10),
    default=10,
    help="With --encoder: round its weights to so many bits behind the first, to be stored in less. [default: 10]",
)
@click.option("--keep-hyper", is_flag=True, help="With --encoder: replace g_a alone, and keep the bundle's h_a.")
@click.option("--name", callback=check_name, help="Name of the model, written in each file. [default: preset-1]")
@click.option("--data", "photos", type=_PATH, metavar="DIR", help="Photos for calibration. [default: scikit-image's]")
@click.option("--check-photo", type=_PATH, metavar="FILE", help="Photo for the comparison with PyTorch.")
@click.option("--grouping", metavar="NAME", help="Of a model with several groupings, not the first but this one.")
@click.option("--verify/--no-verify", default=True, help="Compare every graph with PyTorch. [default: yes]")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON report instead of tables.")
@engine_options
@click.version_option(package_name="basic-codec", prog_name=PROGRAM)
@click.pass_context
def main(
    context: click.Context,
    source: Path,
    output: Path | None,
    levels: int,
    level: tuple[int, Path] | None,
    encoder: tuple[int, Path] | None,
    prune: float,
    weight_bits: int,
    keep_hyper: bool,
    name: str | None,
    photos: Path | None,
    check_photo: Path | None,
    grouping: str | None,
    verify: bool,
    overwrite: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Turn SOURCE, the model.safetensors of basic-train, into a bundle for basic-run.

    With --engine, build engines for NVIDIA GPUs in it, too. SOURCE may then be a bundle, or the name of the
    bundled model; its engines go into a copy if -o names one. With --level and --encoder, too, SOURCE is a bundle:
    the new one has another level, and decodes the files of both; or only another encoder, and is the same model.

    \b
    basic-export runs/lite/model.safetensors -o my-model --name my-model --data data/train
    basic-export my-model -o faster --name my-model-2 --level 0=runs/level0 --data data/train
    basic-export my-model -o better --encoder 7=runs/encoder --data data/train
    basic-export lite-11 -o lite-11-gpu --engine tensorrt-rtx --compute-capability 86,89,120
    """
    request = engine_cli.request_of(context, **engine)
    bundle = engine_cli.bundle_of(source)
    part = level or encoder
    lean = engine_cli.given_options(context, ("prune", "weight_bits", "keep_hyper"))
    if lean and encoder is None:
        raise click.UsageError(f"{lean[0]} is about --encoder")
    if part is not None:
        _require_replaceable(context, source, bundle)
    elif bundle is not None:
        _engines_of(context, request, bundle, output, as_json)
        return
    if output is None:
        raise click.UsageError("name the new bundle with -o")
    if any(find_spec(package) is None for package in NEEDED):
        raise MissingExtraError.of("exporting a model", "export")
    from basic_export.bundle import check_target

    check_target(output, overwrite)
    named = partial(Options, levels=levels, photos=photos, check_photo=check_photo, verify=verify, overwrite=overwrite)
    targets = engine_cli.require_builder(request) if request is not None else []
    if bundle is not None and part is not None:
        lean_encoder = {"prune": prune, "weight_bits": weight_bits, "keep_hyper": keep_hyper}
        report = _replace(bundle, *part, output, named, name, lean_encoder, as_json)
    else:
        report = _export_checkpoint(source, output, grouping, name, named, as_json)
    built = engine_cli.build(request, output, targets, quiet=as_json) if request is not None else None
    if as_json:
        from basic_export.report import as_json as values_of

        engines = {} if built is None else {"engines": engine_cli.engine_values(built)}
        click.echo(json.dumps(values_of(report) | engines, indent=2))
        return
    from rich.console import Console

    from basic_export.report import show

    show(report, Console())
    if built is not None:
        engine_cli.show_engines(built, Console())


def _engines_of(
    context: click.Context, request: EngineRequest | None, bundle: Path, output: Path | None, as_json: bool
) -> None:
    """Build engines for a bundle that is there already."""
    if request is None:
        raise click.UsageError(f"{bundle} is a bundle already: add --engine to build engines for it")
    _refuse_of_checkpoints(context, EXPORT_ONLY, bundle)
    targets = engine_cli.require_builder(request)
    built = engine_cli.build(request, engine_cli.copy_of(bundle, output), targets, quiet=as_json)
    if as_json:
        click.echo(json.dumps({"engines": engine_cli.engine_values(built)}, indent=2))
        return
    from rich.console import Console

    engine_cli.show_engines(built, Console())


def _require_replaceable(context: click.Context, source: Path, bundle: Path | None) -> None:
    """Raises UsageError where --level or --encoder has no bundle to replace something of, or comes with what is none of
    it."""
    replaced = engine_cli.given_options(context, ("level", "encoder"))
    if len(replaced) > 1:
        raise click.UsageError("--level brings an encoder: give --encoder alone, or in a second run")
    if bundle is None:
        part = "a level" if replaced == ["--level"] else "an encoder"
        raise click.UsageError(f"{replaced[0]} replaces {part} of a bundle, which {source} is not: export it first")
    _refuse_of_checkpoints(context, ("levels", "grouping"), bundle)
    named = bool(engine_cli.given_options(context, ("name",)))
    if replaced == ["--level"] and not named:
        raise click.UsageError("a bundle with another level is another model: give it a name with --name")
    if replaced == ["--encoder"] and named:
        raise click.UsageError("with another encoder a bundle is the same model, which has its name: leave out --name")


def _refuse_of_checkpoints(context: click.Context, names: tuple[str, ...], bundle: Path) -> None:
    """Raises UsageError for one of these options."""
    given = engine_cli.given_options(context, names)
    if given:
        raise click.UsageError(f"{given[0]} is about exporting a checkpoint, and {bundle} is a bundle already")


def _replace(
    bundle: Path,
    number: int,
    checkpoint: Path,
    output: Path,
    named: Callable[[str], Options],
    name: str | None,
    lean_encoder: dict[str, Any],
    as_json: bool,
) -> Report:
    """Another level, which has a name, or another encoder."""
    from basic_export.replace_encoder import replace_encoder
    from basic_export.replace_level import NetError, replace_level
    from basic_runtime.bundle import Bundle
    from basic_runtime.cli.progress import progress_bar
    from basic_train import checkpoint as checkpoints
    from basic_train.devices import tune_allocator

    replace = partial(replace_encoder, **lean_encoder) if name is None else replace_level
    options = named(name or Bundle(bundle).name)
    net, _ = checkpoints.load(checkpoint)
    _warn(options)
    tune_allocator()
    try:
        with progress_bar(as_json, lines=True) as advance:
            return replace(bundle, number, net, output, options, advance)
    except NetError as error:
        raise NetError(f"{checkpoint}: {error}") from error


def _export_checkpoint(
    checkpoint: Path,
    output: Path,
    grouping: str | None,
    name: str | None,
    named: Callable[[str], Options],
    as_json: bool,
) -> Report:
    from basic_export.export import export_bundle
    from basic_runtime.cli.progress import progress_bar
    from basic_train import checkpoint as checkpoints
    from basic_train.devices import tune_allocator

    net, _ = checkpoints.load_with_grouping(checkpoint, grouping)
    options = named(name or f"{net.config.preset[: LONGEST_NAME - 2]}-1")
    _warn(options)
    tune_allocator()
    with progress_bar(as_json, lines=True) as advance:
        return export_bundle(net, output, options, advance)


def _warn(options: Options) -> None:
    if not options.verify:
        click.echo(f"{PROGRAM}: warning: --no-verify: graphs are not compared with PyTorch", err=True)
