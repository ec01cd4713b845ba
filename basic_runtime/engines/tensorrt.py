"""Serialised engines of TensorRT and TensorRT-RTX, from the bundle's folder `engines` (docs/gpu.md).

Outputs stay on the GPU as `DeviceArray`s, which go into the next engine as they are; `np.asarray` copies one to the
host. Each thread has its own stream, execution contexts and memory.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from basic_runtime.engines import cuda
from basic_runtime.engines.base import Backend, DeviceTimes, Engine, TensorLike
from basic_runtime.engines.engine_set import (
    EngineFile,
    EngineSet,
    Shape,
    find_set,
    read_engine,
    rebuild_command,
)
from basic_runtime.engines.tensorrt_library import TENSORRT, TENSORRT_RTX, Library, message_log
from basic_runtime.errors import EngineError, EngineMismatchError, MissingExtraError

GRAPHS_PER_ENGINE = 8
"""CUDA graphs that are kept for one engine in one thread: shapes that came last."""

PACKED_MEAN = "mean.int16"
"""An output that engines of stages have in place of "mean", to send less to the host: uint8 (1, C, h, w, 2), the bytes
of little-endian int16."""


class DeviceArray:
    """An array in GPU memory; `np.asarray` copies it to the host, as float32."""

    def __init__(
        self,
        stream: cuda.Stream,
        block: cuda.Block,
        shape: Shape,
        dtype: DTypeLike = np.float32,
        unpack: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> None:
        """unpack: makes the values of this array out of those in memory, which have `dtype` and `shape`."""
        self.stream, self.block = stream, block
        self._stored, self._dtype, self._unpack = shape, dtype, unpack
        self.shape = shape if unpack is None else shape[:-1]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        values = self.stream.download(self.block, self._stored, self._dtype)
        if self._unpack is not None:
            values = self._unpack(values)
        return values if dtype is None else values.astype(dtype, copy=False)


class _Worker:
    """The stream of a thread, its execution contexts, as long as their engines live, and the scratch memory that they
    share."""

    def __init__(self) -> None:
        self.stream = cuda.Stream()
        self._contexts: weakref.WeakKeyDictionary[TensorRtEngine, _Context] = weakref.WeakKeyDictionary()
        self._scratch: cuda.Block | None = None

    def context(self, engine: TensorRtEngine) -> _Context:
        found = self._contexts.get(engine)
        if found is None:
            found = self._contexts[engine] = _Context(engine)
        return found

    def scratch(self, size: int) -> cuda.Block:
        """Memory for one run at a time: as large as any engine asked for, kept until a larger one comes."""
        if self._scratch is None or self._scratch.size < size:
            self.stream.synchronise()
            self._scratch = self.stream.device.take(size)
        return self._scratch


class _Context:
    """An execution context of one engine in one thread, with the CUDA graphs of shapes that came before. A graph keeps
    the context that it was recorded from: TensorRT does not say what it does once that has changed."""

    def __init__(self, engine: TensorRtEngine) -> None:
        self._engine = weakref.proxy(engine)  # which may go although this thread stays
        self._context = engine.new_context()
        self._graphs: OrderedDict[Hashable, tuple[cuda.Graph, Any]] = OrderedDict()
        self._enqueued: Hashable = None
        self._bound: tuple[dict[str, Shape], dict[str, int], cuda.Block] | None = None

    def run(self, worker: _Worker, inputs: Mapping[str, DeviceArray]) -> dict[str, DeviceArray]:
        context, stream = self._context, worker.stream
        for name, values in inputs.items():
            if not context.set_input_shape(name, values.shape):
                raise EngineError(f"{self._engine.label}: refuses {name} of shape {list(values.shape)}")
        outputs = {}
        for name, dtype in self._engine.stored_outputs.items():
            shape = tuple(context.get_tensor_shape(name))
            block = stream.device.take(int(np.prod(shape)) * np.dtype(dtype).itemsize)
            outputs[name] = DeviceArray(stream, block, shape, dtype)
        scratch = worker.scratch(self._engine.scratch_size)
        tensors = {**inputs, **outputs}
        addresses = {name: values.block.address for name, values in tensors.items()}
        self._bound = {name: values.shape for name, values in inputs.items()}, addresses, scratch
        _bind(context, addresses, scratch)
        with stream.timed("compute"):
            self._execute(stream, (scratch.address, *((v.shape, v.block.address) for v in tensors.values())))
        return outputs

    def layer_times(self, stream: cuda.Stream) -> dict[str, float]:
        """Milliseconds of each layer when the last run is repeated, in a context that records no graphs; {} if there
        was none."""
        if self._bound is None:
            return {}
        context, profiler = self._engine.new_context(graphs=False), self._engine.layer_profiler()
        shapes, addresses, scratch = self._bound
        for name, shape in shapes.items():
            context.set_input_shape(name, shape)
        _bind(context, addresses, scratch)
        context.profiler = profiler
        context.execute_async_v3(int(stream.handle))
        stream.synchronise()
        return dict(profiler.milliseconds)

    def _execute(self, stream: cuda.Stream, key: Hashable) -> None:
        """Run, and record a graph when shapes and addresses are those of the run before: a context that has new
        shapes must run plainly once before it can be recorded."""
        if key in self._graphs:
            self._graphs.move_to_end(key)
            self._graphs[key][0].launch(stream)
            self._enqueued = None
        elif self._engine.records_graphs and key == self._enqueued:
            graph, recorded = stream.capture(lambda: self._enqueue(stream)), self._context
            graph.launch(stream)
            self._context, self._enqueued = self._unrecorded(stream), None
            self._graphs[key] = graph, recorded
        else:
            self._enqueue(stream)
            self._enqueued = key

    def _unrecorded(self, stream: cuda.Stream) -> Any:
        """A new execution context, or that of the graph which was not used for longest."""
        if len(self._graphs) < GRAPHS_PER_ENGINE:
            return self._engine.new_context()
        stream.synchronise()
        _, (_, context) = self._graphs.popitem(last=False)
        return context

    def _enqueue(self, stream: cuda.Stream) -> None:
        if not self._context.execute_async_v3(int(stream.handle)):
            raise EngineError(f"{self._engine.label}: failed on the GPU: {self._engine.reason()}")


def unpacked_mean(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The means (1, C, h, w) of a `PACKED_MEAN`."""
    return packed.view("<i2")[..., 0].astype(np.float32)


def _bind(context: Any, addresses: Mapping[str, int], scratch: cuda.Block) -> None:
    """Tell a context where its tensors and its scratch memory are."""
    context.set_device_memory(scratch.address, scratch.size)
    for name, address in addresses.items():
        context.set_tensor_address(name, address)


class TensorRtEngine(Engine):
    """A deserialised engine; runs may overlap from several threads."""

    def __init__(self, backend: TensorRtBackend, label: str, data: bytes, described: EngineFile) -> None:
        """label: names the graph in messages. Raises EngineMismatchError if the library refuses the engine here."""
        self._backend, self._described, self.label = backend, described, label
        self._trt = backend.trt
        self._engine = backend.runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise EngineMismatchError(f"{label}: {backend.name} refuses the engine: {backend.reason()}")
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        self.inputs = tuple(inputs)
        self.stored_outputs: dict[str, Any] = {
            name: self._trt.nptype(self._engine.get_tensor_dtype(name)) for name in names if name not in inputs
        }
        self.outputs = tuple(name for name in self.stored_outputs if name != PACKED_MEAN)
        self.scratch_size = int(self._engine.device_memory_size_v2)
        #: TensorRT-RTX records CUDA graphs itself.
        self.records_graphs = not backend.library.ahead_of_time

    def run(self, inputs: Mapping[str, TensorLike]) -> dict[str, TensorLike]:
        """The outputs are `DeviceArray`s, and so may be the inputs that come from another engine of this thread."""
        check_shapes({name: inputs[name].shape for name in self.inputs}, self._described, self.label, self._backend)
        worker = self._backend.worker()
        on_device = {name: _on_device(inputs[name], worker.stream) for name in self.inputs}
        found = worker.context(self).run(worker, on_device)
        if PACKED_MEAN in found:
            packed = found.pop(PACKED_MEAN)
            found["mean"] = DeviceArray(packed.stream, packed.block, packed.shape, np.uint8, unpacked_mean)
        return {**found}

    def layer_times(self) -> dict[str, float]:
        """Milliseconds of each layer, by its name, in a repetition of this thread's last run."""
        worker = self._backend.worker()
        return worker.context(self).layer_times(worker.stream)

    def new_context(self, graphs: bool = True) -> Any:
        """An execution context whose scratch memory comes from outside; graphs: TensorRT-RTX may record some. Raises
        EngineError."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        how = strategy if self.records_graphs else self._runtime_config(strategy, graphs)
        context = self._engine.create_execution_context(how)
        if context is None:
            raise EngineError(f"{self.label}: {self._backend.name} cannot prepare the engine: {self.reason()}")
        return context

    def _runtime_config(self, strategy: Any, graphs: bool) -> Any:
        """How TensorRT-RTX is to run an engine: with the kernels for any shape that it compiles first. Those for one
        shape, which would take their place between two pictures, have not met the golden vectors, and might give
        another file."""
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.dynamic_shapes_kernel_specialization_strategy = self._trt.DynamicShapesKernelSpecializationStrategy.NONE
        if graphs:
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return config

    def reason(self) -> str:
        return self._backend.reason()

    def layer_profiler(self) -> Any:
        """A profiler of the library that keeps the milliseconds of each layer."""

        class Layers(self._trt.IProfiler):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.milliseconds: dict[str, float] = {}

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                self.milliseconds[layer_name] = self.milliseconds.get(layer_name, 0.0) + ms

        return Layers()


class TensorRtBackend(Backend):
    """TensorRT on the first NVIDIA GPU, with engines that basic-export has built for it."""

    name: ClassVar[str] = "tensorrt"
    library: ClassVar[Library] = TENSORRT
    entropy_fallback: ClassVar[str | None] = "auto"

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(threads)
        self.trt = self.library.load()
        if not cuda.installed():
            raise MissingExtraError.of(f"engine {self.name!r}", self.name)
        self._capability, self._device = cuda.compute_capability(), cuda.device_name()
        self._log = message_log(self.trt)
        self.runtime = self.library.make("Runtime", self._log)
        self._local = threading.local()
        self._sets: dict[Path, tuple[Path, EngineSet]] = {}

    @property
    def version(self) -> str:
        return self.library.version

    @classmethod
    def available(cls) -> bool:
        return cls.library.installed and cuda.gpu_present() and cls.library.loads

    def settings(self) -> Any:
        return self._device

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        """Load the engine that was built of the graph `model` of the bundle `external_data`.

        Raises EngineMismatchError, with the command that builds it, if there is none for this library and GPU.
        """
        folder, found = self._set_of(external_data)
        described = found.engines.get(model.stem)
        if described is None:
            command = rebuild_command(external_data, self.name, self._capability)
            raise EngineMismatchError(f"{folder}: has no engine of graph {model.stem}: build it with {command}")
        label = f"{folder.name}/{model.stem}.engine"
        return TensorRtEngine(self, label, read_engine(folder, model.stem, described), described)

    def tile_limit(self, bundle: Path) -> int | None:
        return min(self._set_of(bundle)[1].sizes.largest)

    def engines_key(self, bundle: Path) -> str:
        return hashlib.sha256(self._set_of(bundle)[1].to_json().encode()).hexdigest()

    def device_times(self) -> DeviceTimes:
        """A clock on this thread's stream, from now on, as long as somebody may ask for the times."""
        clock = cuda.Clock()
        self.worker().stream.clock = weakref.ref(clock)
        return clock.collect

    def worker(self) -> _Worker:
        """This thread's stream and memory."""
        found: _Worker | None = getattr(self._local, "worker", None)
        if found is None:
            found = self._local.worker = _Worker()
        return found

    def reason(self) -> str:
        """The library's complaints since the last call."""
        return str(self._log.taken())

    def _set_of(self, bundle: Path) -> tuple[Path, EngineSet]:
        if bundle not in self._sets:
            self._sets[bundle] = find_set(bundle, self.name, self.version, self._capability)
        return self._sets[bundle]


class TensorRtRtxBackend(TensorRtBackend):
    """TensorRT-RTX, whose engines are built without a GPU and compiled for it when a thread first runs them."""

    name: ClassVar[str] = "tensorrt-rtx"
    library: ClassVar[Library] = TENSORRT_RTX


def check_shapes(shapes: Mapping[str, Shape], described: EngineFile, label: str, backend: Backend) -> None:
    """Raises EngineError if an engine was not built for inputs of these shapes."""
    for name, shape in shapes.items():
        low, high = described.minimum[name], described.maximum[name]
        if len(shape) != len(low) or not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
            raise EngineError(
                f"{label}: was built for {name} from {list(low)} to {list(high)}, not {list(shape)}: build engines "
                f"for {backend.name} with another --min-size or --max-size"
            )


def _on_device(values: TensorLike, stream: cuda.Stream) -> DeviceArray:
    if isinstance(values, DeviceArray) and values.stream is stream:
        return values
    array = np.ascontiguousarray(values, np.float32)
    return DeviceArray(stream, stream.upload(array), array.shape)
