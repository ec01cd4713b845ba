"""The two libraries that run serialised engines on NVIDIA GPUs: TensorRT, and TensorRT-RTX, which has the same API."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from basic_runtime.errors import EngineError, MissingExtraError


@dataclass(frozen=True)
class Library:
    """name: of the engine; module: what Python imports; ahead_of_time: builds without a GPU, for any of its targets."""

    name: str
    module: str
    ahead_of_time: bool

    @property
    def installed(self) -> bool:
        return find_spec(self.module) is not None

    def load(self) -> Any:
        """The Python module. Raises MissingExtraError if it is not installed, EngineError if it cannot be loaded."""
        if not self.installed:
            raise MissingExtraError.of(f"engine {self.name!r}", self.name)
        try:
            return import_module(self.module)
        except (ImportError, OSError) as error:
            raise EngineError(
                f"engine {self.name!r}: the library is installed but does not load ({error}): see docs/gpu.md"
            ) from error

    @property
    def loads(self) -> bool:
        """Whether the library is installed and can be loaded. Never raises."""
        try:
            return self.load() is not None
        except Exception:  # a damaged package may raise anything
            return False

    @property
    def version(self) -> str:
        """Version of the library; engines only load in the one that built them."""
        return str(self.load().__version__)

    def make(self, kind: str, log: Any) -> Any:
        """A "Builder" or "Runtime" of the library, which writes to `log`. Raises EngineError if the library makes none:
        its driver may be too old, or the GPU."""
        try:
            return getattr(self.load(), kind)(log)
        except TypeError as error:  # what its Python module makes of a null pointer
            raise EngineError(
                f"engine {self.name!r}: the library does not start here ({log.taken()}): update NVIDIA's driver, or "
                "choose another engine"
            ) from error


def message_log(trt: Any) -> Any:
    """A logger of the library `trt` that keeps the last errors for our own messages and prints nothing."""

    class Messages(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors = [*self.errors[-9:], message]

        def taken(self) -> str:
            """The errors since they were last taken: the first is the cause, the last says what could not be done."""
            found, self.errors = self.errors, []
            return "; ".join(found) or "it gives no reason"

    return Messages()


TENSORRT = Library("tensorrt", "tensorrt", ahead_of_time=False)
TENSORRT_RTX = Library("tensorrt-rtx", "tensorrt_rtx", ahead_of_time=True)
LIBRARIES = {library.name: library for library in (TENSORRT, TENSORRT_RTX)}
