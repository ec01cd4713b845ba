"""Stands for TensorRT-RTX, on the simulated GPU: it builds for GPUs that are not there, compiles while engines run,
and may record graphs."""

from __future__ import annotations

import weakref
from collections import Counter
from enum import IntEnum
from typing import Any

import numpy as np
import simulated_engines
from simulated_device import device
from simulated_engines import *  # noqa: F403 (what both libraries have)
from simulated_engines import Context, ExecutionContextAllocationStrategy, Shape

__version__ = "1.7.1.116"


class TacticSource(IntEnum):
    EDGE_MASK_CONVOLUTIONS = 0
    JIT_CONVOLUTIONS = 1


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 0


class ComputeCapability(IntEnum):
    NONE = 0
    CURRENT = 1
    SM75 = 75
    SM86 = 86


class CudaGraphStrategy(IntEnum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(IntEnum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class RuntimeConfig:
    """How a context is to run; the values at first are the library's."""

    def __init__(self) -> None:
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
        self.allocation = ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.allocation = strategy


class BuilderConfig(simulated_engines.BuilderConfig):
    num_compute_capabilities = 0

    def set_compute_capability(self, capability: ComputeCapability, number: int) -> bool:
        assert number < self.num_compute_capabilities
        self.capabilities.append(int(capability))
        return True

    def create_timing_cache(self, stored: bytes) -> simulated_engines.TimingCache:
        """Guide, Timing Cache Migration: "forces a GPU query" where there may be none."""
        raise AssertionError("a timing cache of TensorRT-RTX needs a GPU when engines are built")


class Builder(simulated_engines.Builder):
    library = "tensorrt-rtx"

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig()


class Engine(simulated_engines.Engine):
    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, how: Any) -> Context:
        """API: a configuration, or an allocation strategy and the library's choice of all else."""
        config = how if isinstance(how, RuntimeConfig) else RuntimeConfig()
        if config is not how:
            config.set_execution_context_allocation_strategy(how)
        self.check_allocation(config.allocation)
        return CompilingContext(self, config)


class CompilingContext(Context):
    """API, DynamicShapesKernelSpecializationStrategy: LAZY runs a fallback kernel until one for the shape is compiled,
    EAGER has that from the first run on, NONE always runs the fallback. Kernels for a shape may round otherwise: here
    they do."""

    def __init__(self, engine: Engine, config: RuntimeConfig) -> None:
        super().__init__(engine)
        self._specialization = config.dynamic_shapes_kernel_specialization_strategy
        self._runs: Counter[Any] = Counter()
        if config.cuda_graph_strategy == CudaGraphStrategy.WHOLE_GRAPH_CAPTURE:
            device.recording_contexts += 1
            weakref.finalize(self, _records_no_more).atexit = False

    def computed(self, shapes: dict[str, Shape], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        key = tuple(sorted(shapes.items()))
        self._runs[key] += 1
        strategies = DynamicShapesKernelSpecializationStrategy
        first_specialized = {strategies.LAZY: 2, strategies.EAGER: 1}.get(self._specialization)
        found = super().computed(shapes, inputs)
        if first_specialized is None or self._runs[key] < first_specialized:
            return found
        return {name: values + values.dtype.type(1) for name, values in found.items()}


def _records_no_more() -> None:
    device.recording_contexts -= 1


class Runtime(simulated_engines.Runtime):
    library, engine = "tensorrt-rtx", Engine
