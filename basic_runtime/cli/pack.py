"""`basic-run pack`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from basic_runtime.cli.options import LevelList, bundle_option


@click.command(short_help="Write levels of a model as one file, for C and browsers.")
@click.option("--levels", type=LevelList(), required=True, help="Levels that can decode, like 0,3,5-7.")
@click.option(
    "--from-levels",
    "sources",
    type=LevelList(),
    help="Levels whose files can be read (default: those of --levels).",
)
@click.option("--earlier", is_flag=True, help="Read all files of the earlier models that the bundle knows, too.")
@click.option("--encoders", is_flag=True, help="Encode at these levels, too.")
@click.option("-o", "--output", required=True, metavar="FILE", help="The file to write; - for standard output.")
@bundle_option
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pack(
    levels: tuple[int, ...],
    sources: tuple[int, ...] | None,
    earlier: bool,
    encoders: bool,
    output: str,
    bundle: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write levels of a model as one file, which the C library, its commands and the codec for browsers read.

    \b
    basic-run pack --levels 0 -o level0.basicmodel
    basic-decode level0.basicmodel photo.basic

    \b
    basic-run pack --levels 0 --encoders -o codec0.basicmodel
    basic-encode codec0.basicmodel photo.jpg
    """
    from basic_runtime.bundle import Bundle
    from basic_runtime.errors import BundleError
    from basic_runtime.files import STREAM, write_bytes
    from basic_runtime.packed_model import packed_model

    if as_json and output == STREAM:
        raise click.UsageError("--json and -o - would both write to standard output: name a file")
    opened = Bundle(bundle)
    sources = levels if sources is None else sources
    try:
        data = packed_model(opened, levels, sources, earlier=earlier, encoders=encoders)
    except ValueError as error:  # a bundle of fewer levels
        raise BundleError(f"{opened.path}: {error}") from error
    write_bytes(output, data, overwrite=overwrite)
    if as_json:
        facts = {"output": output, "bytes": len(data), "model": opened.name, "levels": levels, "from_levels": sources}
        facts["encoders"] = encoders
        click.echo(json.dumps(facts))
    elif output != STREAM:
        does = "encodes and decodes" if encoders else "decodes"
        what = f"{opened.name}, {does} at {_list(levels)}, files made at {_list(sources)}"
        click.echo(f"{Path(output)}: {len(data):,} bytes, {what}")


def _list(levels: tuple[int, ...]) -> str:
    return ("levels " if len(levels) > 1 else "level ") + ", ".join(map(str, levels))
