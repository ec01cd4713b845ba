"""Engines and their builder, on the simulated GPU: what the Python modules of TensorRT and TensorRT-RTX have in common.

An engine is the typed ONNX graph, which ONNX Runtime computes on the processor when its stream comes to it. Rules are
those of the API reference (docs.nvidia.com/deeplearning/tensorrt, "API") and of the Developer Guide's chapter on
performance ("Guide", CUDA Graphs).
"""

from __future__ import annotations

import json
import weakref
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cache
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
from cuda.bindings.runtime import CAPABILITY
from simulated_device import ALIGNMENT, device, read, write

#: What both libraries have as it is.
__all__ = [
    "BuilderFlag",
    "ExecutionContextAllocationStrategy",
    "ILogger",
    "IProfiler",
    "OnnxParser",
    "TensorIOMode",
    "nptype",
]

CONTEXT_MEMORY = 1 << 20
"""What an execution context takes besides the memory that it is given."""
HERE = "simulated GPU"
Shape = tuple[int, ...]


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4


class IProfiler:
    pass


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class BuilderFlag(IntEnum):
    TF32 = 7


def nptype(dtype: np.dtype[Any]) -> type:
    return dtype.type


# --- building --------------------------------------------------------------------------------------------------------


class Network:
    def __init__(self) -> None:
        self.model = b""


class OnnxParser:
    def __init__(self, network: Network, log: ILogger) -> None:
        self._network = network

    def parse(self, model: bytes) -> bool:
        self._network.model = model
        return True


class TimingCache:
    """API, ITimingCache: timings belong to the GPU that they were taken on."""

    def __init__(self, stored: bytes) -> None:
        self.owner = stored.decode() or HERE

    def serialize(self) -> bytes:
        return self.owner.encode()


class OptimizationProfile:
    def __init__(self) -> None:
        self.limits: dict[str, tuple[Shape, Shape]] = {}

    def set_shape(self, name: str, minimum: Shape, optimum: Shape, maximum: Shape) -> None:
        assert all(a <= b <= c for a, b, c in zip(minimum, optimum, maximum, strict=True))
        self.limits[name] = minimum, maximum


class BuilderConfig:
    def __init__(self) -> None:
        self.profile = OptimizationProfile()
        self.capabilities: list[int] = []
        self._timings: TimingCache | None = None

    def clear_flag(self, flag: BuilderFlag) -> None:
        pass

    def get_tactic_sources(self) -> int:
        return 0b11111

    def set_tactic_sources(self, sources: int) -> bool:
        return True

    def add_optimization_profile(self, profile: OptimizationProfile) -> int:
        self.profile = profile
        return 0

    def create_timing_cache(self, stored: bytes) -> TimingCache:
        return TimingCache(stored)

    def set_timing_cache(self, timings: TimingCache, ignore_mismatch: bool) -> bool:
        """API: false for timings of a GPU with other properties."""
        if timings.owner != HERE and not ignore_mismatch:
            return False
        self._timings = timings
        return True

    def get_timing_cache(self) -> TimingCache | None:
        """API: None if none is set."""
        return self._timings


class Builder:
    library: ClassVar[str]

    def __init__(self, log: ILogger) -> None:
        pass

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig()

    def create_optimization_profile(self) -> OptimizationProfile:
        return OptimizationProfile()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes:
        plan = Plan(self.library, config.capabilities, config.profile.limits)
        return json.dumps(asdict(plan)).encode() + b"\n" + network.model


@dataclass(frozen=True)
class Plan:
    """What a serialised engine says of itself; capabilities: (8.6 is 86) it was built for, none: all."""

    library: str
    capabilities: list[int]
    limits: dict[str, tuple[Shape, Shape]]


# --- running ---------------------------------------------------------------------------------------------------------


class Runtime:
    library: ClassVar[str]
    engine: ClassVar[type[Engine]]

    def __init__(self, log: Any) -> None:
        self._log = log

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        """API: nothing, and a message, for an engine of another library or GPU."""
        head, _, model = data.partition(b"\n")
        plan = Plan(**json.loads(head))
        capability = 10 * CAPABILITY[0] + CAPABILITY[1]
        if plan.library == self.library and capability in (plan.capabilities or [capability]):
            return self.engine(plan, model)
        self._log.log(ILogger.Severity.ERROR, f"an engine of {plan.library} for {plan.capabilities}")
        return None


@cache
def graph_of(model: bytes) -> Graph:
    """The same engine may be loaded by several tests."""
    return Graph(model)


class Graph:
    """A typed ONNX graph: its tensors, and what it computes."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        graph = onnx.load_model_from_string(model).graph
        self.inputs, self.outputs = (_dtypes(values) for values in (graph.input, graph.output))
        self.size = len(model)
        self._shapes: dict[tuple[Shape, ...], dict[str, Shape]] = {}

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self._session.run(list(self.outputs), inputs), strict=True))

    def output_shapes(self, inputs: dict[str, Shape]) -> dict[str, Shape]:
        key = tuple(inputs[name] for name in self.inputs)
        if key not in self._shapes:
            found = self.run({name: np.zeros(inputs[name], dtype) for name, dtype in self.inputs.items()})
            self._shapes[key] = {name: values.shape for name, values in found.items()}
        return self._shapes[key]


def _dtypes(values: Any) -> dict[str, np.dtype[Any]]:
    return {value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in values}


class Engine:
    def __init__(self, plan: Plan, model: bytes) -> None:
        self.plan, self.graph = plan, graph_of(model)
        self._names = [*self.graph.inputs, *self.graph.outputs]
        self.num_io_tensors = len(self._names)
        self.device_memory_size_v2 = self.graph.size // 8
        weakref.finalize(self, device.release, device.reserve(self.graph.size)).atexit = False

    def get_tensor_name(self, number: int) -> str:
        return self._names[number]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.graph.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> np.dtype[Any]:
        return (self.graph.inputs | self.graph.outputs)[name]

    def create_execution_context(self, how: Any) -> Context:
        self.check_allocation(how)
        return Context(self)

    def check_allocation(self, strategy: ExecutionContextAllocationStrategy) -> None:
        """Contexts with memory of their own are right, but are not simulated."""
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED, f"scratch memory is {strategy!r}"


class Context:
    """An execution context of one engine, which lives as long as this (API: the bindings keep it)."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.profiler: Any = None
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}
        self._scratch: tuple[int, int] = (0, 0)
        self._enqueued: Any = None
        weakref.finalize(self, device.release, device.reserve(CONTEXT_MEMORY)).atexit = False

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        """API: false for a shape outside the profile."""
        low, high = self.engine.plan.limits[name]
        if not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> Shape:
        return self._shapes[name] if name in self._shapes else self.engine.graph.output_shapes(self._shapes)[name]

    def set_device_memory(self, address: int, size: int) -> None:
        """API: "256-byte aligned device memory", at least as large as device_memory_size_v2."""
        assert address % ALIGNMENT == 0, "scratch memory that is not aligned"
        assert size >= self.engine.device_memory_size_v2, "scratch memory that is too small"
        self._scratch = address, size

    def set_tensor_address(self, name: str, address: int) -> bool:
        """API, setTensorAddress: "must have at least 256-byte alignment"."""
        assert address % ALIGNMENT == 0, "a tensor that is not aligned"
        self._addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        """API: shapes and addresses of all tensors, and scratch memory, are set; they are in use until the stream has
        done the work. Guide: after shapes have changed, and so it is held here for addresses, one run must be plain
        before one is captured; profilers do not see graphs."""
        stream, run = device.stream(handle), Run(self)
        if stream.capture is None:
            self._enqueued = run.state
            device.counts["enqueued"] += 1
        else:
            assert run.state == self._enqueued, "captured without a plain run of the same shapes and addresses before"
            assert self.profiler is None, "captured with a profiler"
        stream.add(run, run.check_unchanged)
        if self.profiler is not None:  # API, IExecutionContext.enqueue_emits_profile: it waits, by default
            stream.run()
            for layer in ("first layer", "second layer"):
                self.profiler.report_layer_time(layer, 0.5)
        return True

    @property
    def state(self) -> Any:
        return dict(self._shapes), dict(self._addresses), self._scratch

    def computed(self, shapes: dict[str, Shape], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the kernels for these shapes give."""
        return self.engine.graph.run(inputs)


class Run:
    """One run of a context with the shapes and addresses that it has now."""

    def __init__(self, context: Context) -> None:
        self.state = context.state
        self._context, self._graph = weakref.ref(context), context.engine.graph
        self._shapes, self._addresses, self._scratch = self.state
        assert set(self._shapes) == set(self._graph.inputs), "a run without the shapes of all inputs"
        assert set(self._addresses) == {*self._graph.inputs, *self._graph.outputs}, "a run without all addresses"
        self._check_memory()

    def check_unchanged(self) -> None:
        """TensorRT does not say what a graph does once its context has changed, or is gone."""
        assert self._alive.state == self.state, "a graph is launched whose context has changed"

    def __call__(self) -> None:
        self._check_memory()
        inputs = {
            name: read(self._addresses[name], dtype.itemsize * int(np.prod(shape))).view(dtype).reshape(shape)
            for name, dtype in self._graph.inputs.items()
            for shape in [self._shapes[name]]
        }
        write(self._scratch[0], np.full(self._scratch[1], 0xFF, np.uint8))
        for name, values in self._alive.computed(self._shapes, inputs).items():
            write(self._addresses[name], values)

    @property
    def _alive(self) -> Context:
        context = self._context()
        assert context is not None, "an execution context is gone before its work is done"
        return context

    def _check_memory(self) -> None:
        dtypes = self._graph.inputs | self._graph.outputs
        shapes = self._shapes | self._graph.output_shapes(self._shapes)
        for name, shape in shapes.items():
            device.memory.check(self._addresses[name], dtypes[name].itemsize * int(np.prod(shape)))
        device.memory.check(*self._scratch)
