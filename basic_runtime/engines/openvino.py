"""OpenVINO on the CPU, in float32 unless asked for bf16, and never by its own choice, which on many CPUs is bf16."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from basic_runtime.engines.base import BF16, FLOAT32, Backend, Engine, TensorLike
from basic_runtime.errors import EngineError, MissingExtraError
from basic_runtime.threads import default_threads


def _openvino() -> Any:
    """The library, which tells its maker nothing of its use: it does without its package for that where this is
    missing, as it is here while the library is loaded."""
    telling, missing = "openvino_telemetry", object()
    before = sys.modules.get(telling, missing)
    if "openvino" not in sys.modules:
        sys.modules[telling] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if before is missing:
            sys.modules.pop(telling, None)
        else:
            sys.modules[telling] = before  # type: ignore[assignment]
    return openvino


class OpenVinoEngine(Engine):
    """A compiled model with one inference request per calling thread."""

    def __init__(self, model: Any, compiled: Any) -> None:
        """`model` is the graph as it was read: in `compiled`, outputs also bear names of inner tensors."""
        self._compiled = compiled
        self._local = threading.local()
        self.inputs = tuple(_name(port) for port in model.inputs)
        self.outputs = tuple(_name(port) for port in model.outputs)

    def run(self, inputs: Mapping[str, TensorLike]) -> dict[str, TensorLike]:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        try:
            request.infer({name: np.ascontiguousarray(inputs[name]) for name in self.inputs}, share_inputs=True)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO could not run a graph: {_reason(error)}") from error
        # The request owns its output tensors and writes them again in the next run.
        return {name: np.array(request.get_output_tensor(index).data) for index, name in enumerate(self.outputs)}


class OpenVinoBackend(Backend):
    """OpenVINO's CPU plug-in with dynamic shapes.

    bf16 needs a processor with AVX-512 BF16 or AMX. It costs 0.4 % of rate at equal PSNR (docs/lab.md).
    """

    name: ClassVar[str] = "openvino"
    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    native_entropy = True
    precisions: ClassVar[tuple[str, ...]] = (FLOAT32, BF16)

    def __init__(self, threads: int | None = None, precision: str | None = None) -> None:
        super().__init__(threads, precision)
        if not self.available():
            raise MissingExtraError.of("engine 'openvino'", "openvino")
        try:
            self._library = _openvino()
        except ImportError as error:
            raise EngineError(f"engine 'openvino' is installed but does not load here ({error})") from error

        self._core = self._library.Core()
        if self.precision == BF16 and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise EngineError("this processor has no bf16 arithmetic (AVX-512 BF16 or AMX): take float32 instead")

    @property
    def version(self) -> str:
        return str(self._library.__version__)

    @classmethod
    def available(cls) -> bool:
        return find_spec("openvino") is not None

    def settings(self) -> Any:
        return None if self.precision == FLOAT32 else self.precision

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        reduced = self.precision == BF16 and not strict
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if reduced else "f32",
            "EXECUTION_MODE_HINT": "PERFORMANCE" if reduced else "ACCURACY",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads or default_threads(),
            # Other programs, and the threads of another engine, may be at work on the cores it would pin them to.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            graph = self._read(model, external_data)
            return OpenVinoEngine(graph, self._core.compile_model(graph, "CPU", config))
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refuses {model}: {_reason(error)}") from error

    def _read(self, model: Path, external_data: Path) -> Any:
        """Read a graph. OpenVINO takes external tensors from the graph's folder only, so join the two."""
        with tempfile.TemporaryDirectory(prefix="basic-openvino-") as folder:
            shutil.copy(model, folder)
            for path in external_data.glob("*.bin"):
                # Not linked: OpenVINO refuses symbolic links, and the package onnx, with which another process may read
                # the bundle, refuses files that have hard ones.
                shutil.copy(path, folder)
            return self._core.read_model(Path(folder) / model.name)


def _name(port: Any) -> str:
    """The ONNX name of an input or output; several may be attached to one tensor."""
    name: str = port.get_node().get_friendly_name().removesuffix("/sink_port_0")
    return name if name in port.get_names() else str(port.get_any_name())


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
