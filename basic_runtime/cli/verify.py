"""`basic-run verify`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from basic_runtime.cli.options import AUTO, bundle_option, limit_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from basic_runtime.codec import Codec


@click.command(short_help="Check that this machine's engines decode bit by bit, or that files are intact.")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@bundle_option
@click.option(
    "--engine", "engines", multiple=True, metavar="NAME", help="May be repeated (default: all; of files, auto)."
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads of the engine (default: its own choice)."
)
@limit_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(
    files: tuple[str, ...],
    bundle: str | None,
    engines: tuple[str, ...],
    threads: int | None,
    max_pixels: int | None,
    as_json: bool,
) -> None:
    """Run the bundle's golden vectors on engines of this machine.

    Exits with status 1 unless every engine reproduces every one of them. With FILEs, decode these instead and write
    nothing: each is intact if all its checksums and that of its decoded latents hold.
    """
    if not files:
        _verify_engines(bundle, engines, threads, as_json)
        return
    from basic_runtime.cli.setup import make_codec

    codecs = {name: make_codec(bundle, name, threads, None, max_pixels) for name in engines or (AUTO,)}
    _verify_files(files, codecs, as_json)


def _verify_files(files: tuple[str, ...], codecs: dict[str, Codec], as_json: bool) -> None:
    results = [result for file in files for result in _file_results(file, codecs)]
    for result in results:
        if result["error"]:
            click.echo(f"basic-run: error: {result['error']}", err=True)
        elif not as_json:
            click.echo(f"{result['file']}: intact, decoded by {result['engine']}")
    if as_json:
        click.echo(json.dumps({"files": results}, indent=2))
    if any(result["error"] for result in results):
        click.get_current_context().exit(1)


def _file_results(file: str, codecs: dict[str, Codec]) -> Iterator[dict[str, Any]]:
    """What each codec finds of a file: whether it is intact, None where that was not to be found out, and the error."""
    from basic_runtime.errors import BasicError, DesyncError, FormatError
    from basic_runtime.files import display_name, read_bytes

    try:
        data = read_bytes(file, next(iter(codecs.values())).limits)
    except BasicError as error:
        yield {"file": file, "engine": None, "intact": None, "error": str(error)}
        return
    for name, codec in codecs.items():
        intact: bool | None = True
        found: str | None = None
        try:
            codec.decode(data)
        except BasicError as error:
            intact = False if isinstance(error, FormatError | DesyncError) else None
            found = str(error.in_file(display_name(file)))
        yield {"file": file, "engine": name, "intact": intact, "error": found}


def _verify_engines(bundle: str | None, engines: tuple[str, ...], threads: int | None, as_json: bool) -> None:
    from basic_runtime.bundle import Bundle
    from basic_runtime.codec import Codec
    from basic_runtime.engines import available_backends
    from basic_runtime.engines.native import native_version
    from basic_runtime.errors import EngineMismatchError

    opened = Bundle(bundle)
    results = []
    for name in engines or available_backends():
        try:
            codec = Codec(opened, name, threads)
        except EngineMismatchError as error:
            if engines:
                raise
            click.echo(f"basic-run: note: engine {name} is left out: {error}", err=True)
            continue
        for check in codec.verify():
            results.append(
                {
                    "engine": name,
                    "version": codec.backend.version,
                    "native": native_version() if check.native else None,
                    "variant": check.variant,
                    "exact": check.error is None,
                    "error": None if check.error is None else str(check.error),
                }
            )
    if as_json:
        model = {"name": opened.name, "id": opened.model_id}
        click.echo(json.dumps({"model": model, "checks": results}, indent=2))
    for result in results:
        if result["error"]:
            click.echo(f"basic-run: error: {result['error']}", err=True)
        elif not as_json:
            computed = f", computed by {result['native']}" if result["native"] else ""
            click.echo(
                f"{result['engine']} {result['version']}: entropy variant {result['variant']} is exact{computed}"
            )
    if any(result["error"] for result in results):
        click.get_current_context().exit(1)
