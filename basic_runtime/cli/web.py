"""`basic-run web`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from basic_runtime.cli.folders import find_inputs
from basic_runtime.cli.lines import printable, tell_error
from basic_runtime.cli.options import LevelList, bundle_option, check_named
from basic_runtime.definitions import EXTENSION
from basic_runtime.files import STREAM

if TYPE_CHECKING:
    from basic_runtime.bundle import Bundle


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
    from basic_runtime.web_page import web_folder

    check_named("FOLDER", folder)
    if STREAM in inputs:
        raise click.UsageError("standard input has no name: name a file")
    opened = Bundle(bundle)
    pictures, failed = _pictures(inputs, opened)
    if pictures or not failed:
        written = web_folder(Path(folder), opened, pictures, levels, encoders=encoders, overwrite=overwrite)
        _report(folder, written, as_json)
    if failed:
        click.get_current_context().exit(1)


def _pictures(inputs: Sequence[str], bundle: Bundle) -> tuple[dict[str, bytes], bool]:
    """The files that a page can show, by their names there, and whether others failed, which is said."""
    from basic_runtime.errors import BasicError, FileError
    from basic_runtime.files import read_bytes
    from basic_runtime.web_page import checked_header

    pictures: dict[str, bytes] = {}
    failed = False
    for each in find_inputs(inputs, [EXTENSION]).found.values():
        name = (each.folder / Path(each.source).name).as_posix()
        try:
            if each.error is not None:
                raise each.error
            if name in pictures:
                raise FileError(f"{each.source}: another file has the name {name}: rename one")
            data = read_bytes(each.source)
            checked_header(name, data, bundle)
            pictures[name] = data
        except BasicError as error:
            failed = True
            tell_error(error.named_line(each.source))
    return pictures, failed


def _report(folder: str, written: dict[str, int], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"folder": folder, "files": written}))
        return
    for name, size in written.items():
        click.echo(printable(f"{Path(folder) / name}  {size:,} bytes"))
    click.echo(printable(f"look at it: cd {shlex.quote(folder)} && python3 -m http.server"), err=True)
