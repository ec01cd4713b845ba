"""The entropy path in the decoder: from a stream to the latent, stage by stage."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import crc32_of_integers
from basic_runtime.coder import Decoder, StreamError, dequantise, indexes_from_scale
from basic_runtime.engines.base import FloatArray, TensorLike
from basic_runtime.entropy import GroupedEntropy
from basic_runtime.errors import EngineError, FormatError
from basic_runtime.flow import Trace, last_readers, no_trace
from basic_runtime.latent import Latent
from basic_runtime.planes import Band, Planes
from basic_runtime.tiles import Canvas


def decode_latent(
    entropy: GroupedEntropy, stream: bytes | memoryview, canvas: Canvas, trace: Trace = no_trace
) -> tuple[Latent, int]:
    """The latent of a picture, and its checksum.

    Raises FormatError if the bytes are no stream of this shape, EngineError for an engine that gives no integers.
    """
    try:
        return _Decoding(entropy, stream, canvas, trace).run()
    except StreamError as error:
        raise FormatError(f"the coded latents are damaged ({error}): get the file again") from error
    except ValueError as error:
        raise EngineError(f"the engine's results cannot be decoded with: {error}") from error


class _Decoding:
    """One stream on its way to a latent."""

    def __init__(self, entropy: GroupedEntropy, stream: bytes | memoryview, canvas: Canvas, trace: Trace) -> None:
        self._entropy, self._canvas, self._trace = entropy, canvas, trace
        with trace("ans"):
            self._decoder = Decoder(entropy.tables, stream)
        self._checksum = 0
        self._state: dict[str, Planes] = {}

    def run(self) -> tuple[Latent, int]:
        entropy, canvas = self._entropy, self._canvas
        z = Planes.of(canvas, self._hyper_latent())
        steps = [entropy.hyper_step(canvas, z, self._state, self._trace)]
        for stage in range(len(entropy.spec.stages)):
            stride, channels = entropy.slot_stride, entropy.stage_channels(stage)
            mean = Band(canvas, stride, channels)
            scale = _Indexes(canvas, stride, channels, entropy.scale_rows(stage))
            decode = partial(self._decode, stage, mean, scale)
            sinks = {"mean": mean, "scale": scale}
            # All rows of a stage come in one go; those of an encoder's stages wait for each other, for which tiles do.
            steps.append(entropy.stage_step(stage, canvas, self._state, sinks, decode, self._trace, by_rows=True))
        latent = entropy.latent(self._state, canvas, self._trace if canvas.whole else no_trace)
        over, kept = last_readers(steps), set(latent.planes)
        for step in steps:
            step.advance(canvas.height)
            for planes in over[step] - kept:
                planes.drop(canvas.height)
        with self._trace("ans"):
            self._decoder.finish()
        return latent, self._checksum

    def _hyper_latent(self) -> FloatArray:
        entropy, canvas = self._entropy, self._canvas
        stride = entropy.z_stride
        shape = (1, entropy.z_channels, canvas.height // stride, canvas.width // stride)
        with self._trace("ans"):
            z = self._decoder.get(entropy.z_indexes(shape))
        if z.size and (int(z.max()) > entropy.z_amax or int(z.min()) < -entropy.z_amax):
            raise FormatError("the coded latents are damaged (z is out of range): get the file again")
        return z.astype(np.float32)

    def _decode(self, stage: int, mean: Band, scale: _Indexes, first: int, last: int) -> None:
        """The symbols of a stage whose means and scales are there, to its slots."""
        with self._trace("ans"):
            symbols = self._decoder.get(scale.take())
            yhat = mean.take()
            dequantise(symbols, yhat, self._entropy.mean_bits, yhat, self._entropy.all_threads)
        with self._trace("checksum"):
            self._checksum = crc32_of_integers(yhat, self._checksum, self._entropy.all_threads)
        self._entropy.store(stage, yhat, self._state, first, last)


class _Indexes(Band):
    """A stage's scales as they are written, as rows of the coder's tables: uint8 (1, C, h, w)."""

    def __init__(self, canvas: Canvas, stride: int, channels: int, lut: NDArray[np.uint8]) -> None:
        super().__init__(canvas, stride, channels)
        self._lut = lut

    def write(self, part: TensorLike, row: int, column: int) -> None:
        indexes = np.empty(part.shape, np.uint8)
        indexes_from_scale(np.ascontiguousarray(part, np.float32), self._lut, indexes, self._threads)
        super().write(indexes, row, column)
