"""Adds to a bundle that was exported without them the parts in which large pictures are computed.

    python -m basic_export.add_parts BUNDLE

What the bundle's files decode to does not change, nor does its model id.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import onnx

from basic_export.bundle import GRAPHS, MANIFEST, write_parts
from basic_runtime.bundle import Bundle
from basic_runtime.cli.errors import OneLineErrors
from basic_runtime.files import write_bytes


def add_parts(path: Path) -> int:
    """Write the parts of all graphs of the bundle in a folder, and return how many graphs have some.

    Raises BundleError for a damaged bundle, ExportError for graphs that cannot be followed, FileError.
    """
    Bundle(path)
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    for name, entry in manifest["graphs"].items():
        model = onnx.load(path / GRAPHS / f"{name}.onnx", load_external_data=False)
        entry.pop("parts", None)
        entry.update(write_parts(path, model, entry["transform"]))
    write_bytes(path / MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n", overwrite=True)
    return sum("parts" in entry for entry in manifest["graphs"].values())


class _Command(OneLineErrors):
    program = "basic_export.add_parts"


@click.command(cls=_Command)
@click.argument("bundle", type=click.Path(path_type=Path))
def main(bundle: Path) -> None:
    """Add parts for tiles of large pictures to a bundle."""
    click.echo(f"{bundle}: {add_parts(bundle)} graphs have parts")


if __name__ == "__main__":
    main()
