"""Types of the C++ extension.

Arrays are never converted: another dtype is a TypeError, an array that is not C-contiguous a ValueError.
The calls release the GIL; no other thread may change their arrays meanwhile.
"""

from collections.abc import Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from basic_runtime.engines.base import Phases
from basic_runtime.errors import BasicError

_Out = TypeVar("_Out", NDArray[np.int16], NDArray[np.int32])

class StreamError(ValueError):
    """The bytes are damaged, cut short, hostile, or were made with other tables or indexes."""

class KernelError(BasicError):
    """A kernel was asked for that this build or this processor does not have."""

def kernels() -> list[str]:
    """Names of the kernels that run here, fastest first; the last is "scalar" (docs/coder.md).

    The first is the default, unless the environment variable BASIC_CODER_KERNEL names another.
    """

class Tables:
    """Immutable probability tables, shared by any number of coders and threads."""

    def __init__(
        self,
        freqs: NDArray[np.uint16],
        sizes: NDArray[np.uint16],
        offsets: NDArray[np.int32],
        shifts: NDArray[np.uint8],
    ) -> None:
        """Takes R rows (1 to 256) laid end to end.

        freqs: (sum of sizes,) frequencies >= 1, each row sums to 4096; a row's last code is the escape.
        sizes: (R,) codes per row, 2 to 256. shifts: (R,) raw low bits of a symbol, at most 15.
        offsets: (R,) value of ``symbol >> shift`` of the row's first code.
        Raises ValueError for anything else, also when a code's symbols do not fit int32.
        """

    @property
    def rows(self) -> int: ...

class Encoder:
    """Queues stages of symbols and writes them as one stream."""

    def __init__(self, tables: Tables, kernel: str | None = None) -> None:
        """kernel: one of :func:`kernels`; all write the same bytes. Raises KernelError for another name."""
    def put(self, symbols: NDArray[np.int16] | NDArray[np.int32], indexes: NDArray[np.uint8]) -> None:
        """Appends one stage: ``symbols`` in C order, and as many ``indexes`` that name their rows.

        Raises ValueError for an index beyond the rows; the encoder is then unchanged.
        """

    def finish(self, lanes: int = 0) -> bytes:
        """The stream of all stages; the encoder is then empty again.

        lanes: 0 chooses by payload, else a power of two up to 64 (lowered for streams too short for it).
        """

    def reset(self) -> None:
        """Forgets all queued stages."""

    @property
    def kernel(self) -> str: ...

class Decoder:
    """Reads a stream stage by stage."""

    def __init__(
        self,
        tables: Tables,
        data: bytes | bytearray | memoryview | NDArray[np.uint8],
        kernel: str | None = None,
    ) -> None:
        """Copies ``data`` (contiguous bytes-like). ``kernel`` as for :class:`Encoder`.

        Raises StreamError for a damaged header, KernelError for an unknown kernel.
        """

    @overload
    def get(self, indexes: NDArray[np.uint8], out: None = None) -> NDArray[np.int32]: ...
    @overload
    def get(self, indexes: NDArray[np.uint8], out: _Out) -> _Out:
        """The next stage's symbols in the shape of ``indexes``, or in ``out`` (same size), which it returns.

        Raises ValueError for an index beyond the rows, or an ``out`` that overlaps ``indexes`` (nothing is consumed),
        StreamError for damaged bytes or a symbol outside an int16 ``out``; every later call then raises one too.
        """

    def finish(self) -> None:
        """Raises StreamError unless all bytes are used and the final states are right."""

    @property
    def lanes(self) -> int: ...
    @property
    def kernel(self) -> str: ...

def quantise(
    y: NDArray[np.float32],
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
    index_lut: NDArray[np.uint8],
    mean_bits: int,
    *,
    symbols: NDArray[np.int32],
    indexes: NDArray[np.uint8],
    yhat: NDArray[np.float32],
    threads: int = 1,
) -> None:
    """Latents of a stage to symbols, table rows and the decoder's latents; all arrays of one size.

    ``mean`` and ``yhat`` are integers in units of 2^-mean_bits (0 to 16), ``scale`` integers:
    symbols = floor(y - mean * 2^-mean_bits + 1/2), clamped to +-min(2^20, 2^23 >> mean_bits);
    indexes = index_lut[clip(scale, 0, len(index_lut) - 1)]; yhat = symbols * 2^mean_bits + mean, exact.
    Raises ValueError for NaN anywhere, infinite y, a mean or scale that is not an integer, or |mean| >= 2^23.
    """

def indexes_from_scale(
    scale: NDArray[np.float32], index_lut: NDArray[np.uint8], out: NDArray[np.uint8], threads: int = 1
) -> None:
    """The ``indexes`` of :func:`quantise`, for the decoder.

    Raises ValueError for a scale that is not an integer.
    """

def dequantise(
    symbols: NDArray[np.int32],
    mean: NDArray[np.float32],
    mean_bits: int,
    out: NDArray[np.float32],
    threads: int = 1,
) -> None:
    """The ``yhat`` of :func:`quantise`, for the decoder.

    Raises StreamError for a symbol beyond the clamp of :func:`quantise`, ValueError for a bad mean.
    """

def to_pixels(planes: NDArray[np.float32], pixels: NDArray[np.uint8], threads: int = 1) -> None:
    """pixels (h, w, 3) = clip(floor(255 planes + 1/2), 0, 255) of planes (3, h, w); NaN becomes 0.

    Either may be part of a larger array, with rows that are contiguous. Raises ValueError for other shapes.
    """

def from_pixels(pixels: NDArray[np.uint8], planes: NDArray[np.float32], threads: int = 1) -> None:
    """planes (3, h, w) = pixels (h, w, 3) times float32(1 / 255).

    Either may be part of a larger array, with rows that are contiguous. Raises ValueError for other shapes.
    """

def post_filter(pixels: NDArray[np.uint8], weights: NDArray[np.int8], threads: int = 1) -> None:
    """Filters pixels, uint8 (h, w, 3) or (h, w), in place (docs/format.md): weights int8 (3, 6, 3, 2) or (1, 6, 1, 2).

    Raises ValueError for other shapes.
    """

def filter_moments(
    decoded: NDArray[np.uint8], original: NDArray[np.uint8], first: int, last: int, threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of rows ``first`` to ``last`` of a picture, uint8 (h, w, 3) or (h, w): sums over samples of the products of the
    filter's features with each other, (n, n) in the order of a colour's weights, and with the errors, original -
    decoded, (n, colours).

    Raises ValueError for other or unequal shapes, and rows that are not there.
    """

def fit_filter(features: NDArray[np.float64], errors: NDArray[np.float64], bits_per_error: float) -> NDArray[np.int8]:
    """Weights (3, 6, 3, 2) or (1, 6, 1, 2) that leave the least error, by sums like those of `filter_moments`; those
    that save less than their bits are worth are 0. bits_per_error: what a squared error of a sample is worth in bits;
    infinite: no weight goes. The same on every machine.

    Raises ValueError for sums of other shapes, or that are not finite.
    """

class PngPixels:
    """The zlib stream of a PNG's pixels, uint8 (h, w) or (h, w, c) with c up to 4, in parts that each fill an IDAT
    chunk. The same for any number of threads.

    Each row has the filter that leaves the smallest numbers; of repetitions only runs of a byte are found. Raises
    ValueError for another shape, for a picture without pixels, or for threads that are not 1 to 1024, TypeError for
    another dtype."""

    def __init__(self, samples: NDArray[np.uint8], threads: int = 1) -> None: ...
    def __iter__(self) -> PngPixels: ...
    def __next__(self) -> bytes: ...

def symbol_bits(
    symbols: NDArray[np.int32], indexes: NDArray[np.uint8], bits: NDArray[np.float32], threads: int = 1
) -> float:
    """The sum of ``bits[index, largest + symbol]``, bits (rows, 2 largest + 1) of symbols up to ``largest``; larger
    ones count as these. Exact for bits that are multiples of 2^-12. Raises ValueError for an index that is no row."""

def random_by_key(keys: NDArray[np.uint32], salt: int) -> NDArray[np.float32]:
    """Numbers in [0, 1) of the shape of ``keys``, the same for the same key and salt everywhere."""

def search_moves(
    symbols: NDArray[np.int32],
    indexes: NDArray[np.uint8],
    slope: NDArray[np.float32],
    keys: NDArray[np.uint32],
    bits: NDArray[np.float32],
    curvature: NDArray[np.float32],
    moves: NDArray[np.int8],
    *,
    weight: float,
    caution: float,
    stiffer: float,
    share: float,
    salt: int,
    threads: int = 1,
) -> NDArray[np.int8]:
    """Of each element -1, 0 or 1: a step that changes its bits, of `symbol_bits`, and the error, ``weight`` times the
    slope of it and ``caution`` times the curvature, by less than nothing together. Only a ``share`` of them, by
    `random_by_key`, do what they should; ``moves`` keeps the last step of each, and elements that should go back get
    a curvature ``stiffer`` times as large, both in place. All of one size. Raises ValueError for others, and for an
    index that is no row."""

def convert(
    values: NDArray[np.uint8] | NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32],
    out: NDArray[np.uint8] | NDArray[np.int16] | NDArray[np.float32],
    scale: float = 1.0,
    threads: int = 1,
) -> bool:
    """Writes ``values`` to ``out``, of the same shape, whatever the strides of both: times ``scale``, each step rounded
    to float32, if that is float32; as they are if it is int16. False, and any values, if int16 cannot hold one of them.

    uint8 goes to uint8 alone. The arrays do not overlap. Raises TypeError for other dtypes, ValueError for other
    shapes.
    """

def take_patches(pixels: NDArray[np.uint8], size: int, threads: int = 1) -> NDArray[np.int16]:
    """(1, 3 size^2, h / size, w / size) of pixels (h, w, 3), ``2 byte - 255`` of each: the channels of a position,
    which lie side by side, are rows, columns and colours of a square of pixels.

    Raises ValueError for other shapes, or rows that are not contiguous.
    """

def pixels_of_patches(plane: Plane, size: int, bits: int, threads: int = 1) -> NDArray[np.uint8]:
    """(size h, size w, 3) of a plane (1, 3 size^2, h, w), whose channels are colours, rows and columns of a square of
    pixels: ``clamp((255 value + 2^(bits - 1)) >> bits, 0, 255)``. Raises ValueError for other planes."""

ERROR_BITS: int

def errors_of_patches(
    plane: Plane,
    pixels: NDArray[np.uint8],
    size: int,
    bits: int,
    inside: tuple[int, int, int, int],
    threads: int = 1,
) -> tuple[Plane, int]:
    """By how much a picture that :func:`pixels_of_patches` would give is off, before it is rounded, in units of
    2^-ERROR_BITS of 255: a plane like it, and the sum of all squares.

    ``pixels`` are those that it should be, (size h, size w, 3); those beyond ``inside``, from a first row to before a
    last one and the same of columns, have no error. ERROR_BITS <= bits <= 13. Raises ValueError for other shapes.
    """

def crc32_of_integers(values: NDArray[np.float32], crc: int = 0, threads: int = 1) -> int:
    """zlib's CRC-32 of the values as int32, little-endian, in C order, after something whose own is ``crc``."""

def crc32_of_channels(values: NDArray[np.float32], threads: int = 1) -> NDArray[np.uint32]:
    """:func:`crc32_of_integers` of each ``values[c]``."""

def crc32_joined(crc: int, parts: NDArray[np.uint32], bytes: int) -> int:
    """zlib's CRC-32 of something whose own is ``crc``, followed by parts of ``bytes`` each, from theirs."""

def crc32_append(crcs: NDArray[np.uint32], more: NDArray[np.uint32], bytes: int) -> None:
    """Each of ``crcs`` becomes that of its thing followed by one of ``bytes`` whose own is in ``more``."""

def dots_kernels() -> list[str]:
    """Names of the kernels of integer networks that run here, fastest first; the last is "scalar"."""

def default_dots_kernel() -> str:
    """The first of them, or the one that the environment variable BASIC_DOTS_KERNEL names.

    Raises KernelError if that is none of them.
    """

class Plane:
    """A tensor (1, C, h, w) of int16 that a network wrote, for another to read; numpy.asarray gives an array."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.int16]: ...

class IntegerNet:
    """Convolutions of int16 tensors with sums of int32: the same integers on all processors and with any threads."""

    def __init__(
        self,
        inputs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], int]],
        layers: Sequence[
            tuple[
                Sequence[tuple[int, NDArray[np.int16], int, int, int]],
                NDArray[np.int32],
                NDArray[np.int32],
                NDArray[np.int32],
                NDArray[np.int32],
                bool,
                int,
                Sequence[tuple[int, NDArray[np.int32]]],
                int | None,
            ]
        ],
        outputs: Sequence[tuple[Sequence[tuple[int, int, int, int, int, int]], float | None]],
        threads: int = 1,
        kernel: str | None = None,
    ) -> None:
        """Tensors count the inputs, then the layers.

        inputs: scale, low and high (C,): ``clamp(floor(value * scale + 0.5), low, high)`` of a float32 input counts;
        and how many rows it has for each of the coarsest input's.
        layers: terms, bias, shift, low, high (outputs,), leak, shuffle, skips: ``clamp(leak((sums + bias + skips) >>
        shift), low, high)``, then a pixel shuffle. Each term is a convolution: tensor, weights (outputs, C, kh, kw),
        rows and columns of zeros above and before the tensor, stride. leak multiplies what is negative by 2^-7 and
        rounds it. Each skip is a tensor and how far its values are shifted to the left (outputs,).
        outputs: parts, which are joined along the channels: tensor, first channel, channels, and of which rows and
        columns: step, first row, first column; None for a `Plane`, or times what they are given as float32. kernel: one
        of `dots_kernels`.
        Raises ValueError for parts that do not fit each other and for threads that are not 1 to 1024, KernelError for
        another kernel.
        """

    def run(
        self, inputs: Sequence[NDArray[np.float32] | NDArray[np.int16] | Plane | Phases]
    ) -> list[NDArray[np.float32] | Plane]:
        """Each input is a plane or float32 or int16 (1, C, h, w), all of one size. Rows of arrays are contiguous, or
        the channels of a position of int16. Raises ValueError for others."""

    def stream(self) -> NetStream:
        """A run over rows. Raises ValueError for a network with an output of some rows alone, or of several tensors."""

    @property
    def bytes(self) -> int:
        """Of its weights."""

    @property
    def kernel(self) -> str: ...

class NetStream:
    """A run over the rows of the inputs from the top down, which keeps what later rows need of earlier ones. Of one
    thread at a time."""

    def advance(
        self, inputs: Sequence[NDArray[np.float32] | NDArray[np.int16] | Plane | Phases], last: bool
    ) -> list[NDArray[np.float32] | Plane]:
        """The next rows of each input, and of each output the rows that are known by them, which may be none. Raises
        ValueError as `IntegerNet.run` does, for other columns than before, and after the last rows."""
