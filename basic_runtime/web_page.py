"""A folder that shows `.basic` files in browsers: a page, the decoder in WebAssembly, a packed model and the files."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from basic_runtime.bundle import Bundle
from basic_runtime.container import Header, parse
from basic_runtime.errors import BasicError, FileError
from basic_runtime.files import check_target, make_folder, write_bytes
from basic_runtime.limits import DEFAULT_LIMITS
from basic_runtime.packed_model import packed_model

PAGE, MODEL = "index.html", "model.basicmodel"
PROGRAM = ("basic-codec.wasm", "basic-codec.mjs", "basic-worker.mjs", "basic-image.mjs")
"""What a page of one's own needs, too."""


def web_folder(
    folder: Path,
    bundle: Bundle,
    pictures: Mapping[str, bytes],
    levels: Sequence[int] | None = None,
    *,
    encoders: bool = False,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write the folder for files by their names, which may have folders in them, to be decoded at `levels` (default:
    those that the files suggest, or 0); with `encoders` the page encodes photos at them, too. Returns what was written,
    by name, and how many bytes.

    Raises what `checked_header` does, and FileError for what is there already or cannot be written; nothing is written
    then.
    """
    headers = {name: _header(name, data, bundle) for name, data in pictures.items()}
    levels = sorted({header.decode_level for header in headers.values()} or {0}) if levels is None else levels
    sources = sorted({header.level for header in headers.values()} | set(levels))
    earlier = any(header.model_id != bundle.model_id for header in headers.values())
    content = {name: files("basic_runtime").joinpath("web", name).read_bytes() for name in (*PROGRAM, PAGE)}
    figures = [_figure(name, len(data), headers[name]) for name, data in pictures.items()]
    parts = {"pictures": "\n".join(figures)} | _invitation(sources, encoders)
    for name, part in parts.items():
        content[PAGE] = content[PAGE].replace(f"<!-- {name} -->".encode(), part.encode())
    content[MODEL] = packed_model(bundle, levels, sources, earlier=earlier, encoders=encoders)
    content |= pictures
    _write_all({folder / name: data for name, data in content.items()}, overwrite)
    return {name: len(data) for name, data in content.items()}


def _write_all(content: Mapping[Path, bytes], overwrite: bool) -> None:
    """Write files once it is known that all can be."""
    for path in content:
        if path.parent.is_dir():
            check_target(path, overwrite)
    for path in content:
        make_folder(path.parent)
    for path, data in content.items():
        write_bytes(path, data, overwrite=overwrite)


def checked_header(name: str, data: bytes, bundle: Bundle) -> Header:
    """The header of a file for the page. Raises FormatError for one that is damaged, WrongBundleError for one of
    another model, and FileError for the name of a part of the page; they do not name the file."""
    if name.partition("/")[0] in (PAGE, MODEL, *PROGRAM):
        raise FileError("the page has a part of this name: rename the file")
    header, _ = parse(data, DEFAULT_LIMITS)
    bundle.check_header(header)
    return header


def _header(name: str, data: bytes, bundle: Bundle) -> Header:
    try:
        return checked_header(name, data, bundle)
    except BasicError as error:
        raise error.in_file(name) from None


def _invitation(sources: Sequence[int], encoders: bool) -> dict[str, str]:
    """What the page asks for, and the kinds of files beside .basic that it takes."""
    files = f"a .basic file made at level {', '.join(map(str, sources))}"
    if encoders:
        return {"invitation": f"Drop a photo here to encode it, or {files}, or choose one:", "kinds": ",image/*"}
    return {"invitation": f"Drop {files} here, or choose one:", "kinds": ""}


def _figure(name: str, size: int, header: Header) -> str:
    shown = html.escape(os.fsencode(name).decode(errors="replace"))  # it may be no UTF-8
    return (
        f'<figure><basic-image src="{quote(os.fsencode(name))}" model="{MODEL}" alt="{shown}"></basic-image>\n'
        f"<figcaption>{shown}: {header.width}x{header.height}, {size:,} bytes</figcaption></figure>"
    )
