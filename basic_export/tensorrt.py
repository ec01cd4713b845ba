"""Builds one serialised engine from a typed graph, with TensorRT or TensorRT-RTX: the API of the two is the same.

Networks are strongly typed: what is float16 is so in the graph (basic_export.typed). TF32, which is on by default, is
off everywhere, and so are the libraries whose convolutions transform to fractions (Winograd, FFT) where the builder
has them. No flag rules out a transforming kernel of the builder's own: that is what the golden vectors are for.
Needs no PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto

from basic_export.errors import ExportError
from basic_runtime.cache import store
from basic_runtime.engines.cuda import compute_capability
from basic_runtime.engines.engine_set import PORTABLE, Shape
from basic_runtime.engines.tensorrt_library import Library, message_log

#: Sources of kernels that TensorRT 10 may choose from besides its own, and that are refused.
_FOREIGN_SOURCES = ("CUBLAS", "CUBLAS_LT", "CUDNN")


@dataclass(frozen=True)
class Profile:
    """Shapes of every input for which an engine works (minimum to maximum) and is tuned (optimum)."""

    minimum: Mapping[str, Shape]
    optimum: Mapping[str, Shape]
    maximum: Mapping[str, Shape]


class EngineBuilder:
    """A builder for one target: "sm86", or PORTABLE. timing_cache: a file for kernel timings, where they are taken.

    Raises MissingExtraError, EngineError (library), ExportError (a target that the library cannot build for here).
    """

    def __init__(self, library: Library, target: str, timing_cache: Path) -> None:
        self.library, self.target, self.version = library, target, library.version
        self._trt = library.load()
        self._log = message_log(self._trt)
        self._timing_cache = timing_cache
        require_target(library, target)
        self._builder = library.make("Builder", self._log)

    def network(self, model: ModelProto, name: str) -> Any:
        """The library's network of a graph. Raises ExportError naming the operator that the library refuses."""
        network = self._builder.create_network(self._creation_flags())
        parser = self._trt.OnnxParser(network, self._log)
        if not parser.parse(model.SerializeToString()):
            reasons = [parser.get_error(number).desc() for number in range(parser.num_errors)]
            raise ExportError(f"{self.library.name} {self.version} refuses graph {name}: {'; '.join(reasons)}")
        return network

    def config(self, profile: Profile) -> Any:
        """The library's configuration: flags, target, one optimisation profile."""
        trt = self._trt
        config = self._builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        sources = config.get_tactic_sources()
        for name in _FOREIGN_SOURCES:
            if hasattr(trt.TacticSource, name):
                sources &= ~(1 << int(getattr(trt.TacticSource, name)))
        config.set_tactic_sources(sources)
        if self.library.ahead_of_time and self.target != PORTABLE:
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(trt.ComputeCapability, self.target.upper()), 0)
        shapes = self._builder.create_optimization_profile()
        for name in profile.optimum:
            shapes.set_shape(name, profile.minimum[name], profile.optimum[name], profile.maximum[name])
        config.add_optimization_profile(shapes)
        return config

    def build(self, model: ModelProto, name: str, profile: Profile) -> bytes:
        """The serialised engine of a typed graph. Raises ExportError with the library's reason."""
        network, config = self.network(model, name), self.config(profile)
        self._load_timings(config)
        self._log.errors.clear()
        engine = self._builder.build_serialized_network(network, config)
        if engine is None:
            raise ExportError(
                f"{self.library.name} {self.version} cannot build graph {name} ({self.target}): {self._log.taken()}"
            )
        self._save_timings(config)
        return bytes(engine)

    def _creation_flags(self) -> int:
        """Strong typing, which TensorRT 10 has to be asked for."""
        flags = self._trt.NetworkDefinitionCreationFlag
        return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0

    def _load_timings(self, config: Any) -> None:
        if self.library.ahead_of_time:  # nothing is timed where there may be no GPU
            return
        stored = self._timing_cache.read_bytes() if self._timing_cache.is_file() else b""
        for known in (stored, b""):  # those of another GPU of this compute capability are refused
            timings = config.create_timing_cache(known)
            if timings is not None and config.set_timing_cache(timings, ignore_mismatch=False):
                return

    def _save_timings(self, config: Any) -> None:
        if self.library.ahead_of_time:
            return
        store(self._timing_cache, bytes(config.get_timing_cache().serialize()))


def known_targets(library: Library) -> list[str]:
    """What the library builds for on this machine: its list, or this machine's own GPU."""
    trt = library.load()
    if not library.ahead_of_time:
        return [f"sm{compute_capability()}"]
    names = trt.ComputeCapability.__members__
    return [name.lower() for name in names if name.startswith("SM")] + [PORTABLE]


def require_target(library: Library, target: str) -> None:
    """Raises ExportError, with the targets that there are, unless the library can build for `target` here."""
    known = known_targets(library)
    if target not in known:
        raise ExportError(
            f"{library.name} {library.version} cannot build for {target} here, but for {', '.join(known)}: "
            "choose others with --compute-capability"
        )
