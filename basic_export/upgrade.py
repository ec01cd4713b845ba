"""Adds to a bundle of an earlier version what this one has: the parts in which large pictures are computed, and the
formats of fixed point.

    python -m basic_export.upgrade BUNDLE [--photos FOLDER] [--checkpoint FILE]

What the bundle's files decode to does not change but for the rounding of pixels, nor does its model id. With the
checkpoint that the bundle was exported from, its g_a loses the hidden units that nothing stirs instead.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import onnx

from basic_export.bundle import GRAPHS, MANIFEST, write_parts
from basic_export.fixed_point import formats_of
from basic_export.lean import lean_analysis
from basic_export.photos import fixed_point_photos
from basic_runtime.bundle import Bundle
from basic_runtime.cli.errors import OneLineErrors
from basic_runtime.files import write_bytes
from basic_train.checkpoint import load


def upgrade(path: Path, photos: Path | None = None) -> tuple[int, int]:
    """Write parts and formats of all graphs of the bundle in a folder; returns how many graphs have some. photos: a
    folder to find the formats with, None for scikit-image's.

    Raises BundleError for a damaged bundle, ExportError for graphs that cannot be followed, FileError, ImageError.
    """
    formats = formats_of(Bundle(path), fixed_point_photos(photos))
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    for name, entry in manifest["graphs"].items():
        model = onnx.load(path / GRAPHS / f"{name}.onnx", load_external_data=False)
        entry.pop("parts", None)
        entry.pop("formats", None)
        entry.update(write_parts(path, model, entry["transform"]))
        if name in formats:
            entry["formats"] = formats[name]
    write_bytes(path / MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n", overwrite=True)
    return sum("parts" in entry for entry in manifest["graphs"].values()), len(formats)


class _Command(OneLineErrors):
    program = "basic_export.upgrade"


@click.command(cls=_Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--photos", type=click.Path(path_type=Path), help="Photos to find formats with (default: scikit-image's)."
)
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="Only leave units of g_a out that nothing stirs."
)
def main(bundle: Path, photos: Path | None, checkpoint: Path | None) -> None:
    """Add parts for tiles of large pictures, and formats of fixed point, to a bundle."""
    if checkpoint is not None:
        count = lean_analysis(bundle, load(checkpoint)[0].float().eval(), photos)
        click.echo(f"{bundle}: {count} hidden units of g_a left out")
        return
    parts, formats = upgrade(bundle, photos)
    click.echo(f"{bundle}: {parts} graphs have parts, {formats} formats of fixed point")


if __name__ == "__main__":
    main()
