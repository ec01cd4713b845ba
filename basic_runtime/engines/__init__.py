"""Back-ends that run a bundle's graphs. Importing this package imports none of their libraries."""

from __future__ import annotations

from importlib import import_module

from basic_runtime.engines.base import Backend, Engine
from basic_runtime.errors import EngineError

__all__ = ["BACKENDS", "Backend", "Engine", "available_backends", "create_backend"]

BACKENDS: dict[str, tuple[str, str]] = {
    "onnxruntime": ("onnxruntime", "OnnxRuntimeBackend"),
    "cuda": ("onnxruntime", "CudaBackend"),
    "tensorrt": ("onnxruntime", "TensorRtBackend"),
    "openvino": ("openvino", "OpenVinoBackend"),
    "torch": ("torch", "TorchBackend"),
}
"""Back-end name -> (module, class)."""


def _backend_class(name: str) -> type[Backend]:
    if name not in BACKENDS:
        raise EngineError(f"no engine is called {name!r}; choose one of {', '.join(BACKENDS)}")
    module, class_name = BACKENDS[name]
    found: type[Backend] = getattr(import_module(f".{module}", __name__), class_name)
    return found


def create_backend(name: str, threads: int | None = None) -> Backend:
    """Make the back-end `name` ready. Raises EngineError for an unknown name or a library that does not
    work here, MissingExtraError if its package is not installed."""
    return _backend_class(name)(threads=threads)


def available_backends() -> list[str]:
    """Names of the back-ends that can run on this machine."""
    return [name for name in BACKENDS if _backend_class(name).available()]
