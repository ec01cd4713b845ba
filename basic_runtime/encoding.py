"""The entropy path in the encoder: from the latent to a stream, all stages over the rows of a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import convert, crc32_of_channels, crc32_of_integers
from basic_runtime.checksum import BandedCrc
from basic_runtime.coder import Encoder
from basic_runtime.engines.base import FloatArray, TensorLike
from basic_runtime.entropy import GroupedEntropy, Quantised
from basic_runtime.flow import Step, Trace, no_trace
from basic_runtime.planes import Band, Planes, Scratch, room
from basic_runtime.tiles import Canvas


class Encoding:
    """One picture on its way into a stream: `steps` run as y comes in, `z`, which h_a writes, and `latent`, which a
    decoder will have, for steps that follow."""

    def __init__(self, entropy: GroupedEntropy, canvas: Canvas, y: Planes, trace: Trace) -> None:
        self._entropy, self._trace = entropy, trace
        self._encoder, self._checksum, self._put = Encoder(entropy.tables), 0, 0
        self.z = HyperLatent(canvas, entropy)
        state: dict[str, Planes] = {}
        self.steps: list[Step] = [entropy.hyper_step(canvas, self.z, state, trace)]
        self._stages: list[_Stage] = []
        shared = _Arrays()
        for stage in range(len(entropy.spec.stages)):
            arrays = _Arrays() if canvas.whole else shared
            self._stages.append(_Stage(entropy, stage, canvas, y, state, arrays, self._put_complete, trace))
            self.steps.append(self._stages[-1].new_step())
        self.latent = entropy.latent(state, canvas, trace if canvas.whole else no_trace)

    def finish(self) -> tuple[bytes, int]:
        """The stream, and the checksum of yhat, after all steps have run."""
        # Steps and stages refer to this object: a cycle would keep their arrays until the next garbage collection, and
        # the next picture would need new memory.
        self.steps.clear()
        self._stages.clear()
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
    """z, rounded as it is written; all of it stays."""

    def __init__(self, canvas: Canvas, entropy: GroupedEntropy) -> None:
        super().__init__(canvas, entropy.z_stride)
        self._entropy = entropy

    def write(self, part: TensorLike, row: int, column: int) -> None:
        super().write(self._entropy.rounded(np.asarray(part)), row, column)

    def drop(self, before: int) -> None:
        """Nothing: the coder reads all of it."""

    def symbols(self) -> NDArray[np.int32]:
        return np.ascontiguousarray(self.view(), dtype=np.int32)


class _Arrays:
    """Memory for the rows that a stage was just run on. Stages of a picture in tiles share it, as all that stays is
    copied from it."""

    def __init__(self) -> None:
        self.mean, self.scale, self.y = Scratch(), Scratch(), Scratch()
        self.symbols, self.indexes, self.yhat = Scratch(), Scratch(), Scratch()


class _Stage:
    """A stage of an encoder: the symbols of the rows that it has been run on."""

    def __init__(
        self,
        entropy: GroupedEntropy,
        stage: int,
        canvas: Canvas,
        y: Planes,
        state: dict[str, Planes],
        arrays: _Arrays,
        coded: Callable[[], None],
        trace: Trace,
    ) -> None:
        self._entropy, self._stage, self._canvas, self._trace = entropy, stage, canvas, trace
        self._y, self._state, self._arrays, self._coded = y, state, arrays, coded
        self._stride = entropy.slot_stride
        channels = entropy.stage_channels(stage)
        self._shape = (1, channels, canvas.height // self._stride, canvas.width // self._stride)
        self._shares = entropy.crew.shares(channels)
        self._mean = Band(canvas, self._stride, channels, arrays.mean)
        self._scales = Band(canvas, self._stride, channels, arrays.scale)
        self._symbols = Planes(canvas, self._stride)
        self._indexes: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._yhat: FloatArray = np.empty(0, np.float32)
        self._crc = BandedCrc(channels)

    def new_step(self) -> Step:
        """The step that runs the stage. It keeps this object, which therefore must not keep it."""
        sinks = {"mean": self._mean, "scale": self._scales}
        return self._entropy.stage_step(
            self._stage, self._canvas, self._state, sinks, self._code, self._trace, also=(self._y,)
        )

    @property
    def complete(self) -> bool:
        return self._symbols.done == self._canvas.height

    def put(self, encoder: Encoder, checksum: int) -> int:
        """Hand all symbols to the coder, and return the checksum of all before continued over this stage's yhat."""
        with self._trace("checksum"):
            if self._canvas.whole:
                checksum = crc32_of_integers(self._yhat, checksum, self._entropy.all_threads)
            else:
                checksum = self._crc.after(checksum)
        with self._trace("ans"):
            symbols = self._symbols.view()
            wide = symbols.astype(np.int32) if symbols.dtype == np.float32 else symbols
            encoder.put(wide, self._indexes)
        self._symbols.drop(self._canvas.height)
        self._indexes = np.empty(0, np.uint8)
        return checksum

    def _code(self, first: int, last: int) -> None:
        """Quantise the rows of the picture from `first` to `last`."""
        part = self._gathered(first, last)
        with self._trace("ans"):
            symbols, indexes, yhat = self._quantised(part)
            self._keep(symbols, indexes, first, last)
        with self._trace("checksum"):
            self._check(yhat)
        self._entropy.store(self._stage, yhat, self._state, first, last)
        self._coded()

    def _gathered(self, first: int, last: int) -> FloatArray:
        """The stage's elements of these rows of y."""
        with self._trace("split"):
            rows = self._y.rows(first, last)
            shape = (*self._shape[:2], (last - first) // self._stride, self._shape[3])
            part = self._arrays.y.array(shape, np.float32)
            self._entropy.crew.each(lambda c: self._entropy.gather(rows, self._stage, c, part), self._shares)
            return part

    def _quantised(self, y: FloatArray) -> Quantised:
        """Symbols, rows of the coder's tables and yhat, in units of 2^-mean_bits, of the stage's elements."""
        entropy, arrays = self._entropy, self._arrays
        mean, scale = self._mean.take(), np.asarray(self._scales.take(), np.float32)
        symbols, indexes = arrays.symbols.array(y.shape, np.int32), arrays.indexes.array(y.shape, np.uint8)
        yhat = arrays.yhat.array(y.shape, np.float32)

        def work(c: slice) -> None:
            entropy.quantise(self._stage, y[:, c], mean[:, c], scale[:, c], (symbols[:, c], indexes[:, c], yhat[:, c]))

        entropy.crew.each(work, self._shares)
        return symbols, indexes, yhat

    def _check(self, yhat: FloatArray) -> None:
        """Prepare the checksum, which is over whole channels."""
        if self._canvas.whole:
            self._yhat = yhat  # no other stage writes to it
            return
        self._crc.add(crc32_of_channels(yhat[0], self._entropy.all_threads), yhat[0, 0].nbytes)

    def _keep(self, symbols: NDArray[np.int32], indexes: NDArray[np.uint8], first: int, last: int) -> None:
        if self._canvas.whole:
            self._indexes = indexes
        else:
            if first == 0:
                self._indexes = room(self._shape, np.uint8)
            rows = self._indexes[:, :, first // self._stride : last // self._stride]
            convert(indexes, rows, threads=self._canvas.threads)
        self._symbols.begin(0, self._canvas.height)
        self._symbols.write(symbols, first // self._stride, 0)
        self._symbols.end(first, last)
