"""The encoder's side of the entropy path: all stages over the rows of a picture, their symbols to one stream."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from basic_runtime.checksum import BandedCrc
from basic_runtime.coder import Encoder, quantise
from basic_runtime.engines.base import FloatArray
from basic_runtime.entropy import GroupedEntropy
from basic_runtime.errors import EngineError
from basic_runtime.flow import Step, Trace
from basic_runtime.planes import Band, Planes, room
from basic_runtime.tiles import Canvas


class Encoding:
    """One picture on its way into a stream: `steps` run as y comes in, and `z`, which h_a writes."""

    def __init__(self, entropy: GroupedEntropy, canvas: Canvas, y: Planes, trace: Trace) -> None:
        self._entropy, self._trace = entropy, trace
        self._encoder, self._checksum, self._put = Encoder(entropy.tables), 0, 0
        self.z = HyperLatent(canvas, entropy.z_stride, entropy.z_amax)
        state: dict[str, Planes] = {}
        self.steps: list[Step] = [entropy.hyper_step(canvas, self.z, state, trace)]
        self._stages: list[_Stage] = []
        for number in range(len(entropy.spec.stages)):
            stage = _Stage(entropy, number, canvas, y, state, self._put_complete, trace)
            self._stages.append(stage)
            self.steps.append(stage.step)

    def finish(self) -> tuple[bytes, int]:
        """The stream, and the checksum of yhat, after all steps have run."""
        with self._trace("ans"):
            return self._encoder.finish(), self._checksum

    def _put_complete(self) -> None:
        """Hand stages that are complete to the coder, in their order."""
        while self._put < len(self._stages) and self._stages[self._put].complete:
            if self._put == 0:
                with self._trace("ans"):
                    z = self.z.symbols()
                    self._encoder.put(z, self._entropy.z_indexes(z.shape))
            self._checksum = self._stages[self._put].put(self._encoder, self._checksum)
            self._put += 1


class HyperLatent(Planes):
    """z, rounded and clamped to +-`amax` as it is written; all of it stays."""

    def __init__(self, canvas: Canvas, scale: int, amax: int) -> None:
        super().__init__(canvas, scale)
        self._amax = amax

    def write(self, part: FloatArray, row: int, column: int) -> None:
        rounded = np.floor(np.asarray(part) + np.float32(0.5))
        super().write(np.clip(rounded, -self._amax, self._amax), row, column)

    def drop(self, before: int) -> None:
        """Nothing: the coder reads all of it."""

    def symbols(self) -> NDArray[np.int32]:
        return np.ascontiguousarray(self.view(), dtype=np.int32)


class _Stage:
    """A stage of an encoder: its step, and the symbols of the rows that it has been run on."""

    def __init__(
        self,
        entropy: GroupedEntropy,
        number: int,
        canvas: Canvas,
        y: Planes,
        state: dict[str, Planes],
        coded: Callable[[], None],
        trace: Trace,
    ) -> None:
        self._entropy, self._number, self._canvas, self._trace = entropy, number, canvas, trace
        self._y, self._state, self._coded = y, state, coded
        self._scale = entropy.slot_stride
        channels = entropy.stage_channels(number)
        self._shape = (1, channels, canvas.height // self._scale, canvas.width // self._scale)
        self._mean, self._scales = Band(canvas, self._scale, channels), Band(canvas, self._scale, channels)
        self._symbols = Planes(canvas, self._scale)
        self._indexes: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._yhat: NDArray[np.int32] = np.empty(0, np.int32)
        self._crc = BandedCrc()
        sinks = {"mean": self._mean, "scale": self._scales}
        self.step = entropy.stage_step(number, canvas, state, sinks, self._code, trace, also=(y,))

    @property
    def complete(self) -> bool:
        return self._symbols.done == self._canvas.height

    def put(self, encoder: Encoder, checksum: int) -> int:
        """Hand all symbols to the coder, and return the checksum of all before continued over this stage's yhat."""
        with self._trace("checksum"):
            checksum = zlib.crc32(self._yhat.data, checksum) if self._canvas.whole else self._crc.after(checksum)
        with self._trace("ans"):
            symbols = self._symbols.view()
            wide = symbols.astype(np.int32) if symbols.dtype == np.float32 else symbols
            encoder.put(wide, self._indexes)
        self._symbols.drop(self._canvas.height)
        self._indexes = np.empty(0, np.uint8)
        return checksum

    def _code(self, first: int, last: int) -> None:
        """Quantise the rows of the picture from `first` to `last`."""
        with self._trace("split"):
            part = self._entropy.gather(self._y.rows(first, last), self._number)
        symbols, indexes, yhat = (np.empty(part.shape, kind) for kind in (np.int32, np.uint8, np.float32))
        with self._trace("ans"):
            try:
                mean, scale = self._mean.take(), np.asarray(self._scales.take(), np.float32)
                quantise(
                    part, mean, scale, self._entropy.scale_rows(self._number), self._entropy.mean_bits,
                    symbols=symbols, indexes=indexes, yhat=yhat,
                )  # fmt: skip
            except ValueError as error:
                raise EngineError(f"the engine's results cannot be coded: {error}") from error
            self._keep(symbols, indexes, first, last)
        with self._trace("checksum"):
            integers = yhat.astype("<i4")
            if self._canvas.whole:
                self._yhat = integers
            else:
                self._crc.add(integers[0])
        self._entropy.store(self._number, yhat, self._state, first, last)
        self._coded()

    def _keep(self, symbols: NDArray[np.int32], indexes: NDArray[np.uint8], first: int, last: int) -> None:
        if self._canvas.whole:
            self._indexes = indexes
        else:
            if first == 0:
                self._indexes = room(self._shape, np.uint8)
            self._indexes[:, :, first // self._scale : last // self._scale] = indexes
        self._symbols.begin(0, self._canvas.height)
        self._symbols.write(symbols, first // self._scale, 0)
        self._symbols.end(first, last)
