"""`basic-run web`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from basic_runtime.cli.folders import find_inputs
from basic_runtime.cli.lines import printable
from basic_runtime.cli.options import LevelList, bundle_option, check_named
from basic_runtime.definitions import EXTENSION


@click.command(short_help="Write a page that shows .basic files in browsers.")
@click.argument("folder")
@click.argument("inputs", metavar="[IN]...", nargs=-1)
@click.option(
    "--levels", type=LevelList(), help="Levels that can decode, like 0,3 (default: what the files suggest, or 0)."
)
@click.option("--encoders", is_flag=True, help="Encode photos at these levels, too.")
@bundle_option
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def web(
    folder: str,
    inputs: tuple[str, ...],
    levels: tuple[int, ...] | None,
    encoders: bool,
    bundle: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write FOLDER: a page that shows .basic files, with all that decodes them in a browser, or encodes photos there.

    \b
    basic-run encode photos --out-dir packed --level 0
    basic-run web site packed
    cd site && python3 -m http.server

    \b
    basic-run web site --encoders

    IN may be a folder, which stands for all .basic files in it and below, whose tree is kept. Level 0 decodes fastest,
    and its model is the smallest.
    """
    from basic_runtime.bundle import Bundle
    from basic_runtime.errors import FileError
    from basic_runtime.files import STREAM, read_bytes
    from basic_runtime.web_page import web_folder

    check_named("FOLDER", folder)
    pictures: dict[str, bytes] = {}
    for each in find_inputs(inputs, [EXTENSION]).found.values():
        if each.error is not None:
            raise each.error
        if each.source == STREAM:
            raise click.UsageError("standard input has no name: name a file")
        name = (each.folder / Path(each.source).name).as_posix()
        if name in pictures:
            raise FileError(f"{each.source}: another file has the name {name}: rename one")
        pictures[name] = read_bytes(each.source)
    written = web_folder(Path(folder), Bundle(bundle), pictures, levels, encoders=encoders, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps({"folder": folder, "files": written}))
        return
    for name, size in written.items():
        click.echo(printable(f"{Path(folder) / name}  {size:,} bytes"))
    click.echo(f"look at it: cd {folder} && python3 -m http.server", err=True)
