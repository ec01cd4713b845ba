"""Back-ends that behave as if their engines had been built ahead of time, and keep what they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basic_runtime.engines import Engine
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend


class Ahead(OnnxRuntimeBackend):
    """Engines that take no side above 192 pixels, as if they had been built so."""

    native_entropy = False

    def tile_limit(self, bundle: Path) -> int | None:
        return 200


class Measured(Ahead):
    """Engines built ahead of time that keep the sides of what they are given, by graph."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.sides: dict[str, set[int]] = {}

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        inner = super().load(model, external_data=external_data, strict=strict)
        sides = self.sides.setdefault(model.stem, set())

        class Asked(Engine):
            inputs, outputs = inner.inputs, inner.outputs

            def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
                sides.update(side for n in self.inputs if n != "gain" for side in inputs[n].shape[2:])
                return inner.run(inputs)

        return Asked()
