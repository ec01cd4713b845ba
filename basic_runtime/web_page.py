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
from basic_runtime.errors import BasicError
from basic_runtime.files import make_folder, write_bytes
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

    Raises FormatError for damaged files, WrongBundleError for those of another model, FileError for what is there
    already or cannot be written.
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
    for name, data in content.items():
        make_folder((folder / name).parent)
        write_bytes(folder / name, data, overwrite=overwrite)
    return {name: len(data) for name, data in content.items()}


def _header(name: str, data: bytes, bundle: Bundle) -> Header:
    try:
        header, _ = parse(data, DEFAULT_LIMITS)
        bundle.check_header(header)
    except BasicError as error:
        raise error.in_file(name) from None
    return header


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
