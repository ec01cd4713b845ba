"""The default back-end: integers by this package where the bundle states their formats; elsewhere, for each graph of
the pixel path, the faster of ONNX Runtime and OpenVINO, if both are installed, which are timed once per machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from basic_runtime import __version__
from basic_runtime.cache import processor, remember, remembered
from basic_runtime.engines.base import (
    BF16,
    FLOAT32,
    INT16,
    Backend,
    Engine,
    FloatArray,
    TensorLike,
    package_version,
)
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend, library_version
from basic_runtime.engines.openvino import OpenVinoBackend
from basic_runtime.errors import EngineError
from basic_runtime.threads import ProcessLock

#: Rounds in which both engines run once each. The first, in which they allocate, does not count; no other begins after
#: so many seconds.
ROUNDS, ENOUGH_SECONDS = 4, 0.25

#: The second engine must be so much faster: its threads and those of other graphs' engines wait for each other's.
ADVANTAGE = 1.15

#: The engines are timed on inputs of about so many values: a picture of 768x512.
TIMED_VALUES = 3 * 768 * 512

#: Inputs are cut to multiples of this: all strides of a graph divide it.
GRID = 16


class RacingEngine(Engine):
    """A graph loaded on several back-ends, which runs on the one that was fastest on inputs like its first."""

    def __init__(self, engines: Mapping[str, Engine], question: list[Any]) -> None:
        """`engines` by back-end; the winner's name is remembered as the answer to `question`."""
        self._engines, self._question = dict(engines), question
        self._winner: Engine | None = None
        self._lock = ProcessLock()
        first = next(iter(engines.values()))
        self.inputs, self.outputs = first.inputs, first.outputs

    def run(self, inputs: Mapping[str, TensorLike]) -> dict[str, TensorLike]:
        with self._lock:
            if self._winner is None:
                name = fastest(self._engines, {key: np.asarray(value) for key, value in inputs.items()})
                remember("engines", self._question, name)
                self._winner = self._engines[name]
                self._engines.clear()
        return self._winner.run(inputs)


class AutoBackend(Backend):
    """Integers by this package. In float32, and for bundles that state no formats, ONNX Runtime or OpenVINO runs the
    pixel path, and ONNX Runtime graphs of the entropy path that this package does not know. In bf16 the pixel path is
    OpenVINO's.

    The choice between the two is made when a graph first runs, in less than a second, and remembered for this graph,
    processor, number of threads and versions.
    """

    name: ClassVar[str] = "auto"
    native_entropy = True
    precisions: ClassVar[tuple[str, ...]] = (INT16, FLOAT32, BF16)

    def __init__(self, threads: int | None = None, precision: str | None = None) -> None:
        super().__init__(threads, precision)
        # Now, to fail before any work on a machine without it.
        if precision == BF16:
            _ = self._openvino
        elif precision == FLOAT32 and not OpenVinoBackend.available():
            _ = self._onnxruntime

    @property
    def version(self) -> str:
        return " and ".join(self._versions())

    @classmethod
    def available(cls) -> bool:
        return True

    def settings(self) -> Any:
        return None if self.precision == FLOAT32 else self.precision

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        if strict or (self.precision != BF16 and not OpenVinoBackend.available()):
            return self._onnxruntime.load(model, external_data=external_data, strict=strict)
        if self.precision == BF16 or not OnnxRuntimeBackend.installed():
            return self._openvino.load(model, external_data=external_data, strict=False)
        question = [model.stem, self._versions(), self.threads, processor()]
        chosen = remembered("engines", question)
        if chosen == OnnxRuntimeBackend.name:
            return self._onnxruntime.load(model, external_data=external_data, strict=False)
        try:
            second = self._openvino.load(model, external_data=external_data, strict=False)
        except EngineError:  # an optional library that does not work here
            return self._onnxruntime.load(model, external_data=external_data, strict=False)
        if chosen == OpenVinoBackend.name:
            return second
        first = self._onnxruntime.load(model, external_data=external_data, strict=False)
        return RacingEngine({OnnxRuntimeBackend.name: first, OpenVinoBackend.name: second}, question)

    @cached_property
    def _onnxruntime(self) -> OnnxRuntimeBackend:
        """Made when a graph needs it: in int16 none does, and importing the library would take as long as a picture."""
        return OnnxRuntimeBackend(self.threads)

    @cached_property
    def _openvino(self) -> OpenVinoBackend:
        return OpenVinoBackend(self.threads, BF16 if self.precision == BF16 else FLOAT32)

    def _versions(self) -> list[str]:
        """Versions of the libraries, by their packages: importing OpenVINO to ask it takes as long as a picture."""
        versions = [f"onnxruntime {library_version()}"] if OnnxRuntimeBackend.installed() else []
        if OpenVinoBackend.available():  # perhaps from an archive that is no Python package
            versions.append(f"openvino {package_version(*OpenVinoBackend.packages) or 'of no package'}")
        return versions or [f"basic-codec {__version__}"]


def fastest(engines: Mapping[str, Engine], inputs: Mapping[str, FloatArray]) -> str:
    """The name of the engine that takes the least time for inputs like these, timed in turn; the first one's unless
    another is faster by `ADVANTAGE`."""
    sample = _sample(inputs)
    best = dict.fromkeys(engines, float("inf"))
    start = time.perf_counter()
    for round_number in range(ROUNDS):
        for name, engine in engines.items():
            began = time.perf_counter()
            try:
                engine.run(sample)
            except EngineError:  # another engine may do better; if none does, the run repeats the error
                continue
            if round_number > 0:
                best[name] = min(best[name], time.perf_counter() - began)
        if round_number > 0 and time.perf_counter() - start > ENOUGH_SECONDS:
            break
    first = next(iter(engines))
    return min(best, key=lambda name: best[name] * (1 if name == first else ADVANTAGE))


def _sample(inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The inputs repeated or cut until the largest has between a half of `TIMED_VALUES` values and all of them, so that
    the choice does not hang on the size of the first picture. Gains and the like stay as they are."""
    sample = dict(inputs)
    while 2 * _most_values(sample) <= TIMED_VALUES and max(_side(sample, 2), _side(sample, 3)) > 1:
        axis = 2 if _side(sample, 2) <= _side(sample, 3) else 3
        sample = {n: v if v.shape[2:] == (1, 1) else np.concatenate([v, v], axis) for n, v in sample.items()}
    while _most_values(sample) > TIMED_VALUES and max(_side(sample, 2), _side(sample, 3)) > GRID:
        axis = 2 if _side(sample, 2) >= _side(sample, 3) else 3
        side = _side(sample, axis)
        kept = max(GRID, side // 2 // GRID * GRID)
        sample = {  # those of coarser inputs in proportion
            n: v if v.shape[2:] == (1, 1) else v.take(range(v.shape[axis] * kept // side), axis)
            for n, v in sample.items()
        }
    return sample


def _most_values(inputs: Mapping[str, FloatArray]) -> int:
    return max(value.size for value in inputs.values())


def _side(inputs: Mapping[str, FloatArray], axis: int) -> int:
    return max(int(value.shape[axis]) for value in inputs.values())
