"""Adds to a bundle of an earlier version what this one has: the parts in which large pictures are computed, and the
formats of fixed point.

    python -m basic_export.upgrade BUNDLE [--photos FOLDER] [--checkpoint FILE | --filters NAME]

What the bundle's files decode to does not change but for the rounding of pixels, nor does its model id. With the
checkpoint that the bundle was exported from, its g_a loses the hidden units that nothing stirs instead. With a name,
the bundle gets filters of decoded pixels instead, and so becomes another model, of this name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import onnx

from basic_export.bundle import GRAPHS, MANIFEST, earlier_models, id_with_filters, write_parts
from basic_export.cli import check_name
from basic_export.errors import ExportError
from basic_export.fixed_point import formats_of
from basic_export.lean import lean_analysis
from basic_export.photos import filter_photos, fixed_point_photos
from basic_export.post_filters import filters_of
from basic_runtime.bundle import Bundle
from basic_runtime.cli.errors import OneLineErrors
from basic_runtime.files import write_bytes
from basic_train.checkpoint import load


def upgrade(path: Path, photos: Path | None = None) -> tuple[int, int]:
    """Write parts and formats of all graphs of the bundle in a folder; returns how many graphs have some. photos: a
    folder to find the formats with, None for scikit-image's.

    Raises BundleError for a damaged bundle, ExportError for graphs that cannot be followed, FileError, ImageError.
    """
    formats = formats_of(_opened(path), fixed_point_photos(photos))
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    for name, entry in manifest["graphs"].items():
        model = onnx.load(path / GRAPHS / f"{name}.onnx", load_external_data=False)
        entry.pop("parts", None)
        entry.update(write_parts(path, model, entry["transform"]))
        if name in formats:  # others may be of earlier models, whose files need those that they have
            entry["formats"] = formats[name]
    _write(path, manifest)
    return sum("parts" in entry for entry in manifest["graphs"].values()), len(formats)


def add_filters(
    path: Path, name: str, photos: Path | None = None, progress: Callable[[str], None] = lambda _: None
) -> int:
    """Give the g_s of the bundle in a folder filters, and the bundle this name and an id of its own; returns how many
    g_s have one. It still decodes its files, as it did. photos: a folder to fit to, None for scikit-image's.

    Raises ExportError for a bundle that has some, BundleError, FileError, ImageError.
    """
    bundle = _opened(path)
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if any("filter" in entry for entry in manifest["graphs"].values()):
        raise ExportError(f"{path}: has filters already: export its checkpoint anew for others")
    pictures = filter_photos(photos)
    if len(pictures) < 2:
        raise ExportError(f"{photos}: holds one photo: filters are fitted to some and tried on others; add photos")
    filters = filters_of(bundle, pictures, progress)
    for graph, weights in filters.items():
        manifest["graphs"][graph]["filter"] = weights
    if filters:
        identity = id_with_filters(bundle.model_id, filters)
        manifest["model"] = {"name": name, "id": identity, "earlier": earlier_models(manifest, filtered=False)}
    _write(path, manifest)
    return len(filters)


def _opened(path: Path) -> Bundle:
    """The bundle in a folder. Raises BundleError, or ExportError for the name of one that comes along."""
    if not path.exists():
        raise ExportError(f"{path}: no such folder; name the folder of a bundle")
    return Bundle(path)


def _write(path: Path, manifest: dict[str, Any]) -> None:
    write_bytes(path / MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n", overwrite=True)


class _Command(OneLineErrors):
    program = "basic_export.upgrade"


@click.command(cls=_Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    help="Photos to find formats, or fit filters, with (default: scikit-image's).",
)
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="Only leave units of g_a out that nothing stirs."
)
@click.option(
    "--filters", metavar="NAME", callback=check_name, help="Only add filters of pixels: another model, of this name."
)
def main(bundle: Path, photos: Path | None, checkpoint: Path | None, filters: str | None) -> None:
    """Add parts for tiles of large pictures, and formats of fixed point, to a bundle."""
    if checkpoint is not None and filters is not None:
        raise click.UsageError("--checkpoint and --filters: one at a time")
    if filters is not None:
        say = partial(click.echo, err=True) if sys.stderr.isatty() else lambda _: None
        click.echo(f"{bundle}: {add_filters(bundle, filters, photos, say)} g_s have filters")
        return
    if checkpoint is not None:
        count = lean_analysis(bundle, load(checkpoint)[0].float().eval(), photos)
        click.echo(f"{bundle}: {count} hidden units of g_a left out")
        return
    parts, formats = upgrade(bundle, photos)
    click.echo(f"{bundle}: {parts} graphs have parts, {formats} formats of fixed point")


if __name__ == "__main__":
    main()
