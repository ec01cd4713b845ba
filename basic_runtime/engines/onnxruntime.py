"""ONNX Runtime on CPUs, and its CUDA and TensorRT execution providers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, Literal

from basic_runtime.engines import cuda
from basic_runtime.engines.base import Backend, Engine, TensorLike, package_version
from basic_runtime.errors import EngineError, MissingExtraError
from basic_runtime.threads import ProcessLock, default_threads

Optimisation = Literal["none", "basic", "extended", "all"]

PACKAGES = ("onnxruntime", "onnxruntime-gpu")

_LEVELS: dict[str, str] = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_LOG_FATAL_ONLY = 4
_SPIN_MICROSECONDS = "200"
_SPIN_DURATION_SINCE = (1, 26)
_arena_lock = ProcessLock()
_arena_ready = False


def onnxruntime() -> Any:
    """The library, which tells its maker nothing of its use (since 1.32 it would) unless the environment says so."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _share_arena(ort: Any) -> None:
    """Register one CPU arena for all sessions of the process: 40 used sessions take 0.8 GB instead of 3.3."""
    global _arena_ready
    with _arena_lock:
        if _arena_ready:
            return
        memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        ort.create_and_register_allocator(memory, ort.OrtArenaCfg(0, -1, -1, -1))
        _arena_ready = True


class OnnxRuntimeEngine(Engine):
    """An ONNX Runtime session; runs may overlap from several threads."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(node.name for node in session.get_inputs())
        self.outputs = tuple(node.name for node in session.get_outputs())

    def run(self, inputs: Mapping[str, TensorLike]) -> dict[str, TensorLike]:
        try:
            values = self._session.run(self.outputs, {name: inputs[name] for name in self.inputs})
        except Exception as error:  # the library raises several unrelated classes
            raise EngineError(f"ONNX Runtime could not run a graph: {_first_line(error)}") from error
        return dict(zip(self.outputs, values, strict=True))


def library_version() -> str:
    """Version of ONNX Runtime."""
    return package_version(*PACKAGES) or str(onnxruntime().__version__)


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime on the CPU, in float32.

    `optimisation` is the library's graph optimisation level; the entropy path is exact at all of them.
    """

    name: ClassVar[str] = "onnxruntime"
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    native_entropy = True
    provider: ClassVar[str] = "CPUExecutionProvider"

    def __init__(self, threads: int | None = None, optimisation: Optimisation = "all") -> None:
        super().__init__(threads)
        if not self.installed():
            raise self._missing()
        if not OnnxRuntimeBackend.available():
            raise EngineError("engine 'onnxruntime' does not load here: pip install --force-reinstall onnxruntime")
        self.optimisation = optimisation
        self._check_provider()

    def _arguments(self) -> dict[str, Any]:
        return super()._arguments() | {"optimisation": self.optimisation}

    @property
    def version(self) -> str:
        return library_version()

    @classmethod
    def installed(cls) -> bool:
        """Whether there is the library, which takes a while to import; perhaps it does not load."""
        return find_spec("onnxruntime") is not None

    @classmethod
    def available(cls) -> bool:
        if not cls.installed():
            return False
        try:
            return cls.provider in onnxruntime().get_available_providers()
        except Exception:  # a damaged package, or one for another system, may raise anything
            return False

    def _missing(self) -> MissingExtraError:
        return MissingExtraError.of(f"engine {self.name!r}", "onnxruntime")

    def settings(self) -> Any:
        return self.optimisation

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        ort = onnxruntime()
        options = self._session_options(ort, external_data)
        try:
            session = ort.InferenceSession(
                model.read_bytes(),
                options,
                providers=[(self.provider, self._provider_options(strict))],
                enable_fallback=0,  # else it may take the CPU at any run, and print so
            )
        except Exception as error:  # see OnnxRuntimeEngine.run
            raise EngineError(
                f"ONNX Runtime refuses {model}: {_first_line(error)}; choose another engine with --engine"
            ) from error
        if session.get_providers()[0] != self.provider:
            raise EngineError(
                f"engine {self.name!r} fell back to {session.get_providers()[0]}: "
                f"its driver or libraries do not load here; choose another with --engine"
            )
        return OnnxRuntimeEngine(session)

    def side_by_side(self) -> tuple[Backend, int]:
        """Engines of one thread each, and as many of them at a time as this one has threads: no thread waits for others
        at the end of a node, and what copies tiles runs on all cores too."""
        count = self.threads or default_threads()
        return (self, 1) if count == 1 else (OnnxRuntimeBackend(1, self.optimisation), count)

    def _session_options(self, ort: Any, external_data: Path) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = _LOG_FATAL_ONLY
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[self.optimisation])
        # Never the library's own default: it pins its threads to cores, where other programs may be at work.
        options.intra_op_num_threads = self.threads or default_threads()
        for name, value in _spinning(ort).items():
            options.add_session_config_entry(name, value)
        options.add_session_config_entry("session.use_env_allocators", "1")
        # The graphs lie one folder below the weights they share, where ONNX itself allows no reference.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(external_data.resolve())
        )
        _share_arena(ort)
        return options

    def _check_provider(self) -> None:
        """Raise unless the library has this provider; the CPU's is always there."""

    def _provider_options(self, strict: bool) -> dict[str, str]:
        return {}


class _GpuBackend(OnnxRuntimeBackend):
    native_entropy = False
    entropy_fallback: ClassVar[str | None] = "auto"

    def __init__(self, threads: int | None = None, optimisation: Optimisation = "all") -> None:
        super().__init__(threads, optimisation)
        _load_cuda()

    def settings(self) -> Any:
        return [super().settings(), cuda.device_name() if cuda.gpu_present() else None]

    def side_by_side(self) -> tuple[Backend, int]:
        return self, 1

    def _check_provider(self) -> None:
        if not self.available():
            raise self._missing()

    def _missing(self) -> MissingExtraError:
        return MissingExtraError.of(f"engine {self.name!r} (once onnxruntime, whose place it takes, is gone)", "gpu")


class CudaBackend(_GpuBackend):
    """ONNX Runtime with its CUDA execution provider; TF32 is off on the entropy path."""

    name: ClassVar[str] = "onnxruntime-cuda"
    provider: ClassVar[str] = "CUDAExecutionProvider"

    def _provider_options(self, strict: bool) -> dict[str, str]:
        if not strict:
            return {"use_tf32": "1"}
        # The library's search for the fastest algorithm may take one that works in transformed values (Winograd), which
        # rounds; its default one multiplies and adds.
        return {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}


class TensorRtProviderBackend(_GpuBackend):
    """ONNX Runtime with its TensorRT execution provider, in float32."""

    name: ClassVar[str] = "onnxruntime-tensorrt"
    provider: ClassVar[str] = "TensorrtExecutionProvider"

    def _provider_options(self, strict: bool) -> dict[str, str]:
        return {"trt_fp16_enable": "0", "trt_int8_enable": "0"}  # bf16 is off, and no option before 1.23


def _load_cuda() -> None:
    """Load CUDA and cuDNN from NVIDIA's Python packages, where they are: the library itself looks on the system only.
    What it prints of those that it does not find is left out, as the provider says so again when it is used."""
    ort = onnxruntime()
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(StringIO()):
            ort.preload_dlls()


def _spinning(ort: Any) -> dict[str, str]:
    """Threads that wait for the next node spin for a moment, as waking them takes as long as a small node.

    Sessions run in turn: threads of one that go on spinning take the cores of the next. Those of a new session spin as
    well, without end where no duration can be set, which made loading a level three times slower (docs/lab.md).
    """
    if tuple(int(part) for part in ort.__version__.split(".")[:2]) < _SPIN_DURATION_SINCE:
        return {"session.intra_op.allow_spinning": "0"}
    return {"session.intra_op.spin_duration_us": _SPIN_MICROSECONDS, "session.force_spinning_stop": "1"}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
