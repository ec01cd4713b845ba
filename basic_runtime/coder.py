"""Entropy coder: whole stages of symbols to bytes and back (rANS in C++, docs/coder-stream.md).

>>> import numpy as np
>>> from basic_runtime.coder import Decoder, Encoder
>>> from basic_runtime.tables import gaussian_rows
>>> tables = gaussian_rows().coder_tables()
>>> symbols = np.array([[0, -1], [2, 70000]], np.int32)
>>> indexes = np.array([[3, 10], [20, 0]], np.uint8)      # the table row of each symbol
>>> encoder = Encoder(tables)
>>> encoder.put(symbols, indexes)                         # one call per stage
>>> data = encoder.finish()
>>> decoder = Decoder(tables, data)
>>> decoder.get(indexes).tolist()                         # the same stages in the same order
[[0, -1], [2, 70000]]
>>> decoder.finish()                                      # all bytes used, states back at their start

From the outputs of a stage graph to symbols and back: :func:`quantise` in the encoder,
:func:`indexes_from_scale` and :func:`dequantise` in the decoder, one pass each.
"""

from __future__ import annotations

from basic_runtime._coder import (
    Decoder,
    Encoder,
    StreamError,
    Tables,
    dequantise,
    indexes_from_scale,
    quantise,
)

__all__ = [
    "Decoder",
    "Encoder",
    "StreamError",
    "Tables",
    "dequantise",
    "indexes_from_scale",
    "quantise",
]
