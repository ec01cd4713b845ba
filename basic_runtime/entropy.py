"""The grouped entropy loop: latents to a stream and back, stage by stage.

A stage's graph reads the prior and what earlier stages decoded, and returns fixed-point means and integer
scales for its slots of y. Both ends run the same graphs on the same integers, and see the same probabilities.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from basic_runtime._coder import dequantise, indexes_from_scale, quantise
from basic_runtime.bundle import Bundle
from basic_runtime.coder import Decoder, Encoder, StreamError
from basic_runtime.engines import Engine
from basic_runtime.engines.packed import INDEX
from basic_runtime.errors import BundleError, EngineError, FormatError
from basic_runtime.manifest import EntropySpec, StageSpec

FloatArray = NDArray[np.float32]
Trace = Callable[[str], AbstractContextManager[None]]
"""Called with the name of a part of the work; the context it returns spans that part."""

GAUSSIAN_ROWS = 64
"""Rows of the coder's tables that belong to Gaussian scales; row 64 + c belongs to z channel c."""


class _Parameters(NamedTuple):
    """What a stage says of its slots: mean and scale (1, C, h, w), and the table row of each scale."""

    mean: FloatArray
    scale: FloatArray
    lut: NDArray[np.uint8]


_ROWS = np.arange(GAUSSIAN_ROWS, dtype=np.uint8)  # the table of an engine that gives rows for scales


def no_trace(part: str) -> AbstractContextManager[None]:
    return nullcontext()


class GroupedEntropy:
    """One entropy variant of a bundle on loaded engines: encodes and decodes (z, y) as one ANS stream.

    Arrays: z (1, Cz, a, b) and y (1, M, r*a, r*b) with r = z_stride / y_stride. Results are in units of y;
    inside, yhat is kept as integers in units of 2^-mean_bits, carried in float32.
    """

    def __init__(self, bundle: Bundle, variant: int, load: Callable[[str], Engine]) -> None:
        """`load` makes an engine from a graph id. Raises BundleError if a stage reads what nothing gives."""
        manifest = bundle.manifest
        self.spec: EntropySpec = bundle.entropy(variant)
        self._tables = bundle.coder_tables
        self._lut = bundle.index_lut
        self._mean_bits = manifest.mean_bits
        self._z_amax = manifest.z_amax
        self._y_channels = manifest.y_channels
        self._z_channels = manifest.z_channels
        self._z_ratio = manifest.z_stride // manifest.y_stride
        self._group_size = manifest.y_channels // self.spec.channel_groups
        if self._z_ratio % self.spec.tile:
            raise BundleError(f"{bundle.path}: tiles of {self.spec.tile} do not divide the latent's grid")
        self._h_s = load(self.spec.h_s)
        self._stages = [(stage, load(stage.graph)) for stage in self.spec.stages]
        self._check_names(bundle)

    def encode(self, y: FloatArray, z: FloatArray, trace: Trace = no_trace) -> tuple[bytes, int]:
        """Code integer z and real y. Returns the stream and the checksum of yhat.

        Raises EngineError if the engines gave values that are not finite, or fractions where integers belong.
        """
        try:
            return self._encode(y, z, trace)
        except ValueError as error:
            raise EngineError(f"the engine's results cannot be coded: {error}") from error

    def decode(
        self, stream: bytes | memoryview, y_height: int, y_width: int, trace: Trace = no_trace
    ) -> tuple[FloatArray, int]:
        """Decode a stream for a latent of `y_height` x `y_width`. Returns yhat (1, M, h, w) and its checksum.

        Raises FormatError if the bytes are no stream of this shape.
        """
        z_shape = (1, self._z_channels, y_height // self._z_ratio, y_width // self._z_ratio)
        y_shape = (1, self._y_channels, y_height, y_width)
        try:
            return self._decode(stream, z_shape, y_shape, trace)
        except StreamError as error:
            raise FormatError(f"the coded latents are damaged ({error}): get the file again") from error
        except ValueError as error:
            raise EngineError(f"the engine's results cannot be decoded with: {error}") from error

    def golden_sha256(self, z: FloatArray, slots: Mapping[str, FloatArray]) -> str:
        """sha256 of all that h_s and the stages compute when y is known ("y.g.ij" of `slots`), as int32."""
        state = self._h_s.run({self._h_s.inputs[0]: z})
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
                state[_slot_name(slot)] = slots[_slot_name(slot)]
        return digest.hexdigest()

    def _encode(self, y: FloatArray, z: FloatArray, trace: Trace) -> tuple[bytes, int]:
        encoder = Encoder(self._tables)
        with trace("ans"):
            encoder.put(np.ascontiguousarray(z, dtype=np.int32), self._z_indexes(z.shape))
        with trace("h_s"):
            state = self._h_s.run({self._h_s.inputs[0]: z})
        checksum = 0
        for number, (stage, engine) in enumerate(self._stages):
            with trace(f"stage {number}"):
                found = self._run_stage(stage, engine, state, y.shape)
            with trace("split"):
                part = self._gather(y, stage)
            with trace("ans"):
                symbols = np.empty(part.shape, np.int32)
                indexes = np.empty(part.shape, np.uint8)
                yhat = np.empty(part.shape, np.float32)
                quantise(
                    part, found.mean, found.scale, found.lut, self._mean_bits,
                    symbols=symbols, indexes=indexes, yhat=yhat,
                )  # fmt: skip
                encoder.put(symbols, indexes)
            with trace("checksum"):
                checksum = zlib.crc32(yhat.astype("<i4").data, checksum)
            self._store(stage, yhat, state)
        with trace("ans"):
            return encoder.finish(), checksum

    def _decode(
        self, stream: bytes | memoryview, z_shape: tuple[int, ...], y_shape: tuple[int, ...], trace: Trace
    ) -> tuple[FloatArray, int]:
        decoder = Decoder(self._tables, stream)
        with trace("ans"):
            z = decoder.get(self._z_indexes(z_shape))
        if z.size and (int(z.max()) > self._z_amax or int(z.min()) < -self._z_amax):
            raise FormatError("the coded latents are damaged (z is out of range): get the file again")
        with trace("h_s"):
            state = self._h_s.run({self._h_s.inputs[0]: z.astype(np.float32)})
        result = np.empty(y_shape, np.float32)
        checksum = 0
        for number, (stage, engine) in enumerate(self._stages):
            with trace(f"stage {number}"):
                found = self._run_stage(stage, engine, state, y_shape)
            with trace("ans"):
                indexes = np.empty(found.scale.shape, np.uint8)
                indexes_from_scale(found.scale, found.lut, indexes)
                symbols = decoder.get(indexes)
                yhat = np.empty(symbols.shape, np.float32)
                dequantise(symbols, found.mean, self._mean_bits, yhat)
            with trace("checksum"):
                checksum = zlib.crc32(yhat.astype("<i4").data, checksum)
            self._store(stage, yhat, state)
            with trace("split"):
                self._scatter(stage, yhat, result)
        with trace("ans"):
            decoder.finish()
        result *= np.float32(2.0**-self._mean_bits)
        return result, checksum

    def _run_stage(
        self, stage: StageSpec, engine: Engine, state: dict[str, FloatArray], y_shape: tuple[int, ...]
    ) -> _Parameters:
        """Run a stage, keep its cached units in `state`, and return what the coder needs."""
        outputs = engine.run({name: state[name] for name in stage.inputs})
        tile = self.spec.tile
        wanted = (1, len(stage.slots) * self._group_size, y_shape[2] // tile, y_shape[3] // tile)
        looked_up = INDEX in outputs
        found = []
        for name in ("mean", INDEX if looked_up else "scale"):
            value = np.asarray(outputs.pop(name), np.float32)
            if value.shape != wanted:
                raise EngineError(f"a stage gave {name} of shape {value.shape} instead of {wanted}")
            found.append(np.ascontiguousarray(value))
        state.update(outputs)
        return _Parameters(found[0], found[1], _ROWS if looked_up else self._lut)

    def _check_index(self, outputs: Mapping[str, FloatArray]) -> None:
        """Raises EngineError if an engine that looks the table up itself finds other rows than the host."""
        if INDEX not in outputs:
            return
        scale = np.asarray(outputs["scale"])
        if not np.array_equal(self._lut[np.clip(scale, 0, self._lut.size - 1).astype(np.int64)], outputs[INDEX]):
            raise EngineError("a stage gave other rows of the coder's tables than its scales have")

    def _store(self, stage: StageSpec, yhat: FloatArray, state: dict[str, FloatArray]) -> None:
        size = self._group_size
        for position, slot in enumerate(stage.slots):
            state[_slot_name(slot)] = yhat[:, position * size : (position + 1) * size]

    def _view(self, y: FloatArray, slot: tuple[int, int, int]) -> FloatArray:
        group, row, column = slot
        size, tile = self._group_size, self.spec.tile
        return y[:, group * size : (group + 1) * size, row::tile, column::tile]

    def _gather(self, y: FloatArray, stage: StageSpec) -> FloatArray:
        return np.concatenate([self._view(y, slot) for slot in stage.slots], axis=1)

    def _scatter(self, stage: StageSpec, part: FloatArray, y: FloatArray) -> None:
        size = self._group_size
        for position, slot in enumerate(stage.slots):
            self._view(y, slot)[...] = part[:, position * size : (position + 1) * size]

    def _z_indexes(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        rows = np.arange(GAUSSIAN_ROWS, GAUSSIAN_ROWS + self._z_channels, dtype=np.uint8)
        return np.ascontiguousarray(np.broadcast_to(rows[None, :, None, None], shape))

    def _check_names(self, bundle: Bundle) -> None:
        known = set(self._h_s.outputs)
        for number, (stage, engine) in enumerate(self._stages):
            where = f"{bundle.path / 'manifest.json'}: stage {number} of the variant with h_s {self.spec.h_s}"
            missing = [name for name in stage.inputs if name not in known]
            if missing:
                raise BundleError(f"{where} reads {missing[0]!r}, which nothing before it gives")
            if set(stage.outputs) - set(engine.outputs) or set(engine.inputs) - set(stage.inputs):
                raise BundleError(f"{where} lists other inputs or outputs than its graph has")
            known |= set(stage.outputs) | {_slot_name(slot) for slot in stage.slots}


def _slot_name(slot: tuple[int, int, int]) -> str:
    return f"y.{slot[0]}.{slot[1]}{slot[2]}"


def _as_int32(values: FloatArray) -> memoryview:
    with np.errstate(invalid="ignore"):
        return np.ascontiguousarray(np.asarray(values).astype("<i4")).data
