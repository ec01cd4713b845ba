"""weights.bin: every distinct tensor of a bundle's graphs, stored once."""

from __future__ import annotations

import hashlib

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from basic_runtime.definitions import WEIGHTS

#: Alignment of tensors in the file: a cache line, and what engines that map the file ask for.
ALIGNMENT = 64

#: Smaller tensors, and all int64 ones (shapes, axes), stay in the graph, where shape inference sees them.
SMALLEST = 256


class WeightStore:
    """Collects tensors by content and points graphs at them (ONNX external data).

    Offsets are final as soon as a tensor is added, so that graphs can be written, and named by their hash,
    one after the other. Each reference holds the sha256 of its tensor, so that a graph's hash covers the
    weights it uses.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._offsets: dict[bytes, int] = {}
        self.referenced_bytes = 0
        """Sum of the sizes of all references: what the graphs would take without sharing."""

    def __len__(self) -> int:
        return len(self._data)

    @property
    def data(self) -> bytes:
        """The file's content."""
        return bytes(self._data)

    def add(self, raw: bytes) -> int:
        """Offset of a tensor's little-endian bytes, stored now if they are new."""
        key = hashlib.sha256(raw).digest()
        self.referenced_bytes += len(raw)
        if key not in self._offsets:
            self._data += b"\0" * (-len(self._data) % ALIGNMENT)
            self._offsets[key] = len(self._data)
            self._data += raw
        return self._offsets[key]

    def externalise(self, model: ModelProto) -> ModelProto:
        """A copy of the model whose large initialisers are references into this store."""
        result = ModelProto()
        result.CopyFrom(model)
        for number, tensor in enumerate(model.graph.initializer):
            values = numpy_helper.to_array(tensor)
            if values.nbytes >= SMALLEST and tensor.data_type != TensorProto.INT64:
                result.graph.initializer[number].CopyFrom(self._reference(tensor, values))
        return result

    def _reference(self, tensor: TensorProto, values: np.ndarray) -> TensorProto:
        raw = np.ascontiguousarray(values).tobytes()
        reference = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        reference.doc_string = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        reference.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", self.add(raw)), ("length", len(raw))):
            entry = reference.external_data.add()
            entry.key, entry.value = key, str(value)
        return reference
