"""The text of `basic-run --version`."""

from __future__ import annotations

from basic_runtime import __version__
from basic_runtime.bundle import Bundle
from basic_runtime.engines import BACKENDS, available_backends, backend_class, create_backend
from basic_runtime.engines.base import package_version
from basic_runtime.engines.native import native_version
from basic_runtime.errors import BasicError


def version_lines() -> list[str]:
    """Library, default model and each engine, a line each."""
    lines = [f"basic-codec {__version__}"]
    try:
        bundle = Bundle(verify_hashes=False)
        lines.append(f"model {bundle.name} ({bundle.model_id})")
    except BasicError as error:
        lines.append(f"model none ({error})")
    lines.append(f"entropy path {native_version()}")
    available = available_backends()
    for name in BACKENDS:
        lines.append(f"engine {name} {_version(name) if name in available else 'not available'}")
    return lines


def _version(name: str) -> str:
    return package_version(*backend_class(name).packages) or create_backend(name).version
