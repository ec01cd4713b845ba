"""BaSIC runtime: encode and decode pictures with an exported model bundle. Needs no PyTorch.

>>> from basic_runtime import Codec, read_picture, write_picture
>>> codec = Codec()                                        # the bundle that ships with the package
>>> data = codec.encode(read_picture("photo.jpg"), quality=50, level=7)

Names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"


def _refuse_other_interpreters() -> None:
    """Raises ImportError in all interpreters of a process but the main one: loading the extension would not end."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # from Python 3.13 on, and before
        try:
            interpreters = import_module(name)
        except ImportError:
            continue
        if interpreters.get_current() != interpreters.get_main():
            raise ImportError(
                "basic_runtime runs in the main interpreter of a process alone, and this is another: "
                "with mod_wsgi, set WSGIApplicationGroup %{GLOBAL}"
            )
        return


_refuse_other_interpreters()

if TYPE_CHECKING:
    from basic_runtime.bundle import Bundle
    from basic_runtime.codec import Codec
    from basic_runtime.container import Container, Header
    from basic_runtime.errors import (
        BasicError,
        BundleError,
        DesyncError,
        EngineError,
        EngineMismatchError,
        FileError,
        FormatError,
        ImageError,
        LimitError,
        MachineProfileError,
        MissingExtraError,
        TargetError,
        TruncatedError,
        WrongBundleError,
    )
    from basic_runtime.imageio import read_picture, write_picture
    from basic_runtime.info import FileInfo, file_info
    from basic_runtime.limits import Limits
    from basic_runtime.networks import VariantCheck
    from basic_runtime.picture import Picture

_HOME_OF = {
    "BasicError": "errors",
    "Bundle": "bundle",
    "BundleError": "errors",
    "Codec": "codec",
    "Container": "container",
    "DesyncError": "errors",
    "EngineError": "errors",
    "EngineMismatchError": "errors",
    "FileError": "errors",
    "FileInfo": "info",
    "FormatError": "errors",
    "Header": "container",
    "ImageError": "errors",
    "LimitError": "errors",
    "Limits": "limits",
    "MachineProfileError": "errors",
    "MissingExtraError": "errors",
    "Picture": "picture",
    "TargetError": "errors",
    "TruncatedError": "errors",
    "VariantCheck": "networks",
    "WrongBundleError": "errors",
    "file_info": "info",
    "read_picture": "imageio",
    "write_picture": "imageio",
}

__all__ = [
    "BasicError",
    "Bundle",
    "BundleError",
    "Codec",
    "Container",
    "DesyncError",
    "EngineError",
    "EngineMismatchError",
    "FileError",
    "FileInfo",
    "FormatError",
    "Header",
    "ImageError",
    "LimitError",
    "Limits",
    "MachineProfileError",
    "MissingExtraError",
    "Picture",
    "TargetError",
    "TruncatedError",
    "VariantCheck",
    "WrongBundleError",
    "__version__",
    "file_info",
    "read_picture",
    "write_picture",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
