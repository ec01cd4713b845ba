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

The inner loops exist once per instruction set, with the same results: :func:`kernels` lists those of this machine,
``Encoder(tables, kernel=...)`` or the environment variable BASIC_CODER_KERNEL picks one (docs/coder.md).
"""

from __future__ import annotations

from basic_runtime._native import (
    Decoder,
    Encoder,
    KernelError,
    StreamError,
    Tables,
    dequantise,
    indexes_from_scale,
    kernels,
    quantise,
)

__all__ = [
    "Decoder",
    "Encoder",
    "KernelError",
    "StreamError",
    "Tables",
    "dequantise",
    "indexes_from_scale",
    "kernels",
    "quantise",
]
