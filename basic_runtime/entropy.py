"""The grouped entropy path, as far as encoders (`encoding`) and decoders (`decoding`) share it.

A stage's graph reads the prior and what earlier stages decoded, and returns fixed-point means and integer
scales for its slots of y. Both ends run the same graphs on the same integers, and see the same probabilities.
The stream holds the stages one after the other, each for the whole picture. An encoder knows all of y, and runs the
stages over the picture together, each some rows behind the one before; a decoder must finish one before the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import convert
from basic_runtime.bundle import Bundle
from basic_runtime.coder import quantise
from basic_runtime.definitions import MANIFEST, SCALE_ROWS
from basic_runtime.engines import Engine
from basic_runtime.engines.base import INDEX, FloatArray, TensorLike
from basic_runtime.engines.native import NativeEngine
from basic_runtime.errors import BundleError, EngineError
from basic_runtime.flow import Crew, RowStep, Sink, Source, Step, TileStep, Trace
from basic_runtime.latent import Latent, slot_name
from basic_runtime.manifest import EntropySpec
from basic_runtime.planes import Planes
from basic_runtime.tiles import Canvas

Quantised = tuple[NDArray[np.int32], NDArray[np.uint8], FloatArray]
"""Symbols, rows of the coder's tables, and yhat, all of one shape."""

_ROWS = np.arange(SCALE_ROWS, dtype=np.uint8)  # the table of an engine that gives rows for scales


class GroupedEntropy:
    """One entropy variant of a bundle on loaded engines: what both ends of the coding share.

    Arrays: z (1, Cz, a, b) and y (1, M, r*a, r*b) with r = z_stride / y_stride. Inside, yhat is kept as integers in
    units of 2^-mean_bits.
    """

    def __init__(
        self,
        bundle: Bundle,
        variant: int,
        load: Callable[[str], Engine],
        crew: Crew | None = None,
        threads: int = 1,
    ) -> None:
        """`load` makes an engine from a graph id, `crew` works on the tiles, and `threads` on the elements of one.

        Raises BundleError if a stage reads what nothing gives.
        """
        manifest = bundle.manifest
        self.spec: EntropySpec = bundle.entropy(variant)
        self.tables = bundle.coder_tables
        self._index_lut = bundle.index_lut
        self.mean_bits, self.z_amax = manifest.mean_bits, manifest.z_amax
        self.y_channels, self.z_channels = manifest.y_channels, manifest.z_channels
        self.y_stride, self.z_stride = manifest.y_stride, manifest.z_stride
        self.slot_channels = manifest.y_channels // self.spec.channel_groups
        self.slot_stride = manifest.y_stride * self.spec.tile
        if self.z_stride % self.slot_stride:
            raise BundleError(f"{bundle.path}: tiles of {self.spec.tile} do not divide the latent's grid")
        self.crew, self.threads = crew or Crew(), threads
        self.all_threads = self.crew.size * threads  # for work between the graphs
        self._h_s = load(self.spec.h_s)
        self._stages = [(stage, load(stage.graph)) for stage in self.spec.stages]
        self._reach = {graph: bundle.graph(graph).reach for graph in self.spec.graphs}
        self._check_names(bundle)

    @property
    def native(self) -> bool:
        """Whether this package computes it, and not the engine's library."""
        return isinstance(self._h_s, NativeEngine)

    def hyper_step(self, canvas: Canvas, z: Source, state: dict[str, Planes], trace: Trace) -> Step:
        """h_s, which puts the prior into `state`."""
        outputs = {name: Planes(canvas, self.slot_stride) for name in self._h_s.outputs}
        state.update(outputs)
        (name,) = self._h_s.inputs
        return TileStep(
            "h_s",
            self._h_s,
            {name: z},
            outputs,
            canvas,
            reach=self._reach[self.spec.h_s],
            side=canvas.latent_side,
            crew=self.crew,
            trace=trace,
        )

    def stage_step(
        self,
        stage: int,
        canvas: Canvas,
        state: dict[str, Planes],
        sinks: Mapping[str, Sink],
        after: Callable[[int, int], None],
        trace: Trace,
        *,
        also: tuple[Source, ...] = (),
        by_rows: bool = False,
    ) -> Step:
        """A stage, which reads `state` and adds to it what it caches, and its slots, for `after` to fill. `sinks` are
        those of "mean" and "scale", `also` what `after` reads. `by_rows`: without margins, where its engine can."""
        spec, engine = self._stages[stage]
        inputs = {name: state[name] for name in spec.inputs if name in engine.inputs}
        cached = {n: Planes(canvas, self.slot_stride) for n in spec.outputs if n not in sinks}
        scale = INDEX if INDEX in engine.outputs else "scale"
        results = cached | {"mean": sinks["mean"], scale: sinks["scale"]}
        slots = {slot_name(slot): Planes(canvas, self.slot_stride) for slot in spec.slots}
        state.update(cached | slots)
        if by_rows and isinstance(engine, NativeEngine) and not canvas.whole:
            return RowStep(
                f"stage {stage}",
                engine,
                inputs,
                results,
                canvas,
                side=canvas.latent_side,
                also=also,
                after=after,
                trace=trace,
            )
        return TileStep(
            f"stage {stage}",
            engine,
            inputs,
            results,
            canvas,
            reach=self._reach[spec.graph],
            side=canvas.latent_side,
            also=also,
            after=after,
            crew=self.crew,
            trace=trace,
        )

    def store(self, stage: int, yhat: FloatArray, state: Mapping[str, Planes], first: int, last: int) -> None:
        """Put a stage's yhat for rows `first` to `last` of the picture into its slots."""
        size = self.slot_channels
        for position, slot in enumerate(self.spec.stages[stage].slots):
            planes = state[slot_name(slot)]
            planes.begin(first, last)
            planes.write(yhat[:, position * size : (position + 1) * size], first // self.slot_stride, 0)
            planes.end(first, last)

    def gather(self, y: FloatArray, stage: int, channels: slice, out: FloatArray) -> None:
        """A stage's elements of rows of y to `out`, as its graph orders them: some of the `stage_channels`."""
        size, tile = self.slot_channels, self.spec.tile
        for position, (group, row, column) in enumerate(self.spec.stages[stage].slots):
            low, high = max(channels.start, position * size), min(channels.stop, (position + 1) * size)
            if low < high:
                shift = (group - position) * size
                part = y[:, low + shift : high + shift, row::tile, column::tile]
                convert(part, out[:, low:high], threads=self.threads)

    def rounded(self, z: FloatArray) -> FloatArray:
        """Values of z as they are coded: whole numbers within the range of the coder's tables. Raises EngineError for
        NaN and infinity, which would become whatever this processor makes of them."""
        z = np.asarray(z)
        if not np.isfinite(z).all():
            raise EngineError("z holds NaN or infinity: this engine computes h_a wrongly; take another with --engine")
        return np.asarray(np.clip(np.floor(z + np.float32(0.5)), -self.z_amax, self.z_amax))

    def prior(self, z: FloatArray) -> dict[str, TensorLike]:
        """The outputs of h_s for the whole z, as `quantised` takes them."""
        return self._h_s.run({self._h_s.inputs[0]: z})

    def quantised(self, y: FloatArray, prior: Mapping[str, TensorLike]) -> Quantised:
        """Symbols, rows of the coder's tables and yhat, in units of y, of a whole latent: what its stream would hold.

        All are (1, M, h, w). Raises EngineError for means and scales that cannot be coded.
        """
        state = dict(prior)
        symbols, indexes = np.empty(y.shape, np.int32), np.empty(y.shape, np.uint8)
        yhat = np.empty(y.shape, np.float32)
        for stage, (spec, engine) in enumerate(self._stages):
            outputs = engine.run({name: state[name] for name in spec.inputs if name in engine.inputs})
            part = self._gathered(y, stage)
            found = np.empty(part.shape, np.int32), np.empty(part.shape, np.uint8), np.empty_like(part)
            scale = outputs[INDEX] if INDEX in outputs else outputs["scale"]
            self.quantise(stage, part, np.asarray(outputs["mean"]), np.asarray(scale, np.float32), found)
            self._scatter(found[0], stage, symbols)
            self._scatter(found[1], stage, indexes)
            self._scatter(found[2], stage, yhat)
            state.update(outputs)
            for slot, decoded in zip(spec.slots, np.split(found[2], len(spec.slots), axis=1), strict=True):
                state[slot_name(slot)] = np.ascontiguousarray(decoded)
        yhat *= np.float32(2.0**-self.mean_bits)
        return symbols, indexes, yhat

    def quantise(self, stage: int, y: FloatArray, mean: FloatArray, scale: FloatArray, results: Quantised) -> None:
        """Elements of a stage to their symbols, rows of the coder's tables, and yhat in units of 2^-mean_bits.

        Raises EngineError for means and scales that cannot be coded.
        """
        symbols, indexes, yhat = results
        rows = self.scale_rows(stage)
        try:
            quantise(
                y,
                mean,
                scale,
                rows,
                self.mean_bits,
                symbols=symbols,
                indexes=indexes,
                yhat=yhat,
                threads=self.threads,
            )
        except ValueError as error:
            raise EngineError(f"the engine's results cannot be coded: {error}") from error

    def latent(self, state: Mapping[str, Planes], canvas: Canvas, trace: Trace) -> Latent:
        """yhat of slots that are all there, or will be."""
        slots = {slot: state[slot_name(slot)] for stage in self.spec.stages for slot in stage.slots}
        return Latent(
            slots,
            canvas,
            stride=self.y_stride,
            tile=self.spec.tile,
            channels=self.y_channels,
            mean_bits=self.mean_bits,
            trace=trace,
        )

    def scale_rows(self, stage: int) -> NDArray[np.uint8]:
        """Row of the coder's tables for each value that a stage writes as "scale": engines may look the rows up."""
        return _ROWS if INDEX in self._stages[stage][1].outputs else self._index_lut

    def stage_channels(self, stage: int) -> int:
        return self.slot_channels * len(self.spec.stages[stage].slots)

    def z_indexes(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Rows of the coder's tables for the elements of z."""
        rows = np.arange(SCALE_ROWS, SCALE_ROWS + self.z_channels, dtype=np.uint8)
        return np.ascontiguousarray(np.broadcast_to(rows[None, :, None, None], shape))

    def golden_sha256(self, z: FloatArray, slots: Mapping[str, FloatArray]) -> str:
        """sha256 of all that h_s and the stages compute when y is known ("y.g.ij" of `slots`), as int32."""
        state = self.prior(z)
        digest = hashlib.sha256()
        for name in sorted(self._h_s.outputs):
            digest.update(_as_int32(state[name]))
        for stage, engine in self._stages:
            outputs = engine.run({name: state[name] for name in stage.inputs})
            for name in stage.outputs:
                digest.update(_as_int32(outputs[name]))
            self._check_index(outputs)
            state.update(outputs)
            for slot in stage.slots:
                state[slot_name(slot)] = slots[slot_name(slot)]
        return digest.hexdigest()

    def _gathered(self, y: FloatArray, stage: int) -> FloatArray:
        channels, tile = self.stage_channels(stage), self.spec.tile
        part = np.empty((1, channels, y.shape[2] // tile, y.shape[3] // tile), np.float32)
        self.gather(y, stage, slice(0, channels), part)
        return part

    def _scatter(self, values: NDArray[Any], stage: int, out: NDArray[Any]) -> None:
        """A stage's elements, as its graph orders them, to their places in `out` (1, M, h, w)."""
        size, tile = self.slot_channels, self.spec.tile
        for position, (group, row, column) in enumerate(self.spec.stages[stage].slots):
            part = values[:, position * size : (position + 1) * size]
            out[:, group * size : (group + 1) * size, row::tile, column::tile] = part

    def _check_index(self, outputs: Mapping[str, TensorLike]) -> None:
        """Raises EngineError if an engine that looks the table up itself finds other rows than the host."""
        if INDEX not in outputs:
            return
        places = np.clip(np.asarray(outputs["scale"]), 0, self._index_lut.size - 1).astype(np.int64)
        if not np.array_equal(self._index_lut[places], outputs[INDEX]):
            raise EngineError("a stage gave other rows of the coder's tables than its scales have")

    def _check_names(self, bundle: Bundle) -> None:
        known = set(self._h_s.outputs)
        for stage, (spec, engine) in enumerate(self._stages):
            where = f"{bundle.path / MANIFEST}: stage {stage} of the variant with h_s {self.spec.h_s}"
            missing = [name for name in spec.inputs if name not in known]
            if missing:
                raise BundleError(f"{where} reads {missing[0]!r}, which nothing before it gives")
            if set(spec.outputs) - set(engine.outputs) or set(engine.inputs) - set(spec.inputs):
                raise BundleError(f"{where} lists other inputs or outputs than its graph has")
            known |= set(spec.outputs) | {slot_name(slot) for slot in spec.slots}


def _as_int32(values: TensorLike) -> memoryview:
    with np.errstate(invalid="ignore"):
        return np.ascontiguousarray(np.asarray(values).astype("<i4")).data
