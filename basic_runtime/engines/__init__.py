"""Back-ends that run a bundle's graphs. Importing this package imports none of their libraries."""

from __future__ import annotations

from importlib import import_module

from basic_runtime.engines.base import BF16, FLOAT32, INT16, Backend, Engine
from basic_runtime.errors import EngineError

__all__ = [
    "AUTO",
    "BACKENDS",
    "BF16",
    "FLOAT32",
    "INT16",
    "Backend",
    "Engine",
    "available_backends",
    "create_backend",
]

AUTO = "auto"
"""The name of the default back-end: this package's integers, and for other graphs the faster engine that is
installed."""

BACKENDS: dict[str, tuple[str, str]] = {
    "onnxruntime": ("onnxruntime", "OnnxRuntimeBackend"),
    "onnxruntime-cuda": ("onnxruntime", "CudaBackend"),
    "onnxruntime-tensorrt": ("onnxruntime", "TensorRtProviderBackend"),
    "tensorrt": ("tensorrt", "TensorRtBackend"),
    "tensorrt-rtx": ("tensorrt", "TensorRtRtxBackend"),
    "openvino": ("openvino", "OpenVinoBackend"),
    "torch": ("torch", "TorchBackend"),
}
"""Back-end name -> (module, class)."""


def backend_class(name: str) -> type[Backend]:
    """The class of a back-end. Raises EngineError for an unknown name."""
    if name not in BACKENDS and name != AUTO:
        raise EngineError(f"no engine is called {name!r}; choose one of {', '.join((*BACKENDS, AUTO))}")
    module, class_name = ("auto", "AutoBackend") if name == AUTO else BACKENDS[name]
    found: type[Backend] = getattr(import_module(f".{module}", __name__), class_name)
    return found


def create_backend(name: str, threads: int | None = None, precision: str | None = None) -> Backend:
    """Make the back-end `name` ready, by default in the first of its precisions. Raises EngineError for an unknown
    name, a library that does not work here or a precision that it does not have, MissingExtraError if its package is
    not installed, ValueError for threads that are not 1 to 1024."""
    found = backend_class(name)
    if precision is None or found.precisions == (precision,):
        return found(threads=threads)
    if precision not in found.precisions:
        known = " or ".join(found.precisions)
        way_out = "choose one of these" if name == AUTO else f"take {AUTO}"
        raise EngineError(f"engine {name!r} computes in {known}, not in {precision}: {way_out}")
    return found(threads=threads, precision=precision)


def available_backends() -> list[str]:
    """Names of the back-ends that can run on this machine."""
    return [name for name in BACKENDS if backend_class(name).available()]
