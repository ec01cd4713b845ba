"""PyTorch as an engine: runs the graphs of a bundle node by node with torch's own operators.

Needs the packages torch and onnx (to read the file). It runs where only PyTorch is at hand, and slower than the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from basic_runtime.engines.base import Backend, Engine, TensorLike
from basic_runtime.errors import EngineError, MissingExtraError


class TorchEngine(Engine):
    """A list of steps over named tensors; what depends on weights only is computed once, at load."""

    def __init__(self, graph: Any, constants: dict[str, Any], threads: int | None) -> None:
        from basic_runtime.engines.torch_ops import OPERATORS, attributes

        unknown = sorted({node.op_type for node in graph.node} - set(OPERATORS))
        if unknown:
            raise EngineError(f"engine 'torch' lacks the ONNX operators {', '.join(unknown)}")
        self.inputs = tuple(value.name for value in graph.input if value.name not in constants)
        self.outputs = tuple(value.name for value in graph.output)
        self._threads = threads
        self._constants = constants
        self._steps: list[tuple[Any, dict[str, Any], list[str], list[str]]] = []
        for node in graph.node:
            step = (OPERATORS[node.op_type], attributes(node), list(node.input), list(node.output))
            if all(name == "" or name in constants for name in node.input):
                _execute(step, constants)
            else:
                self._steps.append(step)
        self._drop_unused_constants()
        self._last_use = self._find_last_uses()

    def run(self, inputs: Mapping[str, TensorLike]) -> dict[str, TensorLike]:
        import torch

        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        values = dict(self._constants)
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            for name in self.inputs:
                values[name] = torch.from_numpy(np.ascontiguousarray(inputs[name]))
            for step, dead in zip(self._steps, self._last_use, strict=True):
                try:
                    _execute(step, values)
                except (RuntimeError, ValueError, IndexError, TypeError) as error:
                    raise EngineError(f"torch could not run node {step[3][0]!r}: {error}") from error
                for name in dead:
                    del values[name]
            return {name: np.ascontiguousarray(values[name].numpy()) for name in self.outputs}

    def _drop_unused_constants(self) -> None:
        used = {name for step in self._steps for name in step[2]} | set(self.outputs)
        self._constants = {name: value for name, value in self._constants.items() if name in used}

    def _find_last_uses(self) -> list[list[str]]:
        """For each step, the tensors that no later step reads, so that memory stays near the live set."""
        kept = set(self.outputs) | set(self._constants)
        dead: list[list[str]] = []
        for step in reversed(self._steps):
            names = {name for name in (*step[2], *step[3]) if name and name not in kept}
            dead.append(sorted(names))
            kept |= names
        return dead[::-1]


class TorchBackend(Backend):
    """PyTorch on the CPU in float32. `threads` sets torch's thread count for the whole process."""

    name: ClassVar[str] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(threads)
        if not self.available():
            raise MissingExtraError.of("engine 'torch'", "train,export")

    @property
    def version(self) -> str:
        import torch

        return str(torch.__version__)

    @classmethod
    def available(cls) -> bool:
        return find_spec("torch") is not None and find_spec("onnx") is not None

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        import onnx
        import torch
        from onnx.external_data_helper import load_external_data_for_model

        try:
            proto = onnx.load(str(model), load_external_data=False)
            load_external_data_for_model(proto, str(external_data))
            constants = {
                tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
                for tensor in proto.graph.initializer
            }
            with torch.inference_mode():
                return TorchEngine(proto.graph, constants, self.threads)
        except EngineError as error:
            raise EngineError(f"{error} (in {model})") from error
        except Exception as error:  # onnx and protobuf raise several unrelated classes
            raise EngineError(f"torch refuses {model}: {error}") from error


def _execute(step: tuple[Any, dict[str, Any], list[str], list[str]], values: dict[str, Any]) -> None:
    operator, attributes, inputs, outputs = step
    results = operator(attributes, *[values[name] if name else None for name in inputs])
    if not isinstance(results, tuple):
        results = (results,)
    for name, result in zip(outputs, results, strict=False):
        values[name] = result
