"""The errors that this package raises on purpose.

Every message is one line that names the file (where one is known), the cause and the way out. The command
line prints it after ``basic-run: error:`` and exits with status 1; nothing else of an error reaches a user.
"""

from __future__ import annotations

import os
import re
from typing import Self

DISTRIBUTION = "basic-codec"


class BasicError(Exception):
    """Base of all errors below; ``str(error)`` is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(_one_line(message))

    def in_file(self, name: str | os.PathLike[str]) -> Self:
        """The same error with the file's name in front, for code that only saw the file's bytes."""
        error = type(self)(f"{os.fspath(name)}: {self}")
        error.__dict__.update(self.__dict__)
        return error

    def named_line(self, name: str, *others: str) -> str:
        """The line, with the file's name in front unless it begins with that, or with one of the others, already. The
        name is as given: whoever prints it escapes what is in it."""
        line = str(self)
        for known in (name, *others):
            if line.startswith(begin := _one_line(f"{known}:") + " "):
                return f"{known}: {line.removeprefix(begin)}"
        return f"{name}: {line}"


def _one_line(message: str) -> str:
    return re.sub(r"\s*[\r\n]+\s*", " ", message).strip()


class FileError(BasicError):
    """A path that cannot be read or written, or that exists and must not be replaced."""


class ImageError(BasicError):
    """A picture that is damaged or of a kind not supported."""


class BundleError(BasicError):
    """A model bundle that is missing, incomplete or damaged."""


class FormatError(BasicError):
    """A compressed file that is damaged, or is no BaSIC file at all."""


class TruncatedError(FormatError):
    """A compressed file that ends too early."""


class LimitError(BasicError):
    """A file or picture that asks for more than `basic_runtime.limits.Limits` allows."""


class WrongBundleError(BasicError):
    """A compressed file made with another model than the bundle at hand."""


class EngineError(BasicError):
    """An inference engine that is not there, or that fails the bundle's golden vectors."""


class EngineMismatchError(EngineError):
    """Serialised engines that are missing, or were built for another library or GPU than this machine has."""


class DesyncError(BasicError):
    """The decoded latents do not match the checksum that the encoder stored."""


class TargetError(BasicError):
    """No quality gives a file as small, or a picture as good, as wanted."""


class MachineProfileError(BasicError):
    """This machine has not been measured, or nothing fits the budget."""


class MissingExtraError(BasicError):
    """An optional dependency is not installed."""

    extra = ""
    """The extra of this package that brings it."""

    @classmethod
    def of(cls, what: str, extra: str) -> Self:
        """The error for work that needs an extra: ``MissingExtraError.of("exporting a model", "export")``."""
        # Not `pip install basic-codec[...]`: an index may have another package of that name.
        way_out = f"pip install '.[{extra}]' in the sources of {DISTRIBUTION}"
        error = cls(f"{what} needs packages that are missing: {way_out}")
        error.extra = extra
        return error
