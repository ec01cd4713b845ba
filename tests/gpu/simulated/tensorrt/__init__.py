"""Stands for TensorRT, on the simulated GPU: it builds for the GPU that is there, and records no graphs."""

from __future__ import annotations

from enum import IntEnum

import simulated_engines
from simulated_engines import *  # noqa: F403 (what both libraries have)
from simulated_engines import Engine

__version__ = "10.9.0.34"


class TacticSource(IntEnum):
    CUBLAS = 0
    CUBLAS_LT = 1
    CUDNN = 2
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class NetworkDefinitionCreationFlag(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class Builder(simulated_engines.Builder):
    library = "tensorrt"


class Runtime(simulated_engines.Runtime):
    library, engine = "tensorrt", Engine
