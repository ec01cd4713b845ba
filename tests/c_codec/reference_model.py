"""A decoder written from docs/model-file.md and docs/format.md alone, slow and plain; it knows no filters."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from reference import ReferenceDecoder

Tensor = np.ndarray[Any, Any]
NOTHING = 0xFFFFFFFF
TYPES = ("u1", "i1", "<u2", "<i2", "<i4", "<f4", "<f2", "<f8")


class Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def bytes(self, size: int) -> bytes:
        self.position += size
        assert self.position <= len(self.data)
        return self.data[self.position - size : self.position]

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.bytes(struct.calcsize("<" + form)))

    def number(self, form: str) -> int:
        (value,) = self.numbers(form)
        return int(value)

    def text(self) -> str:
        return self.bytes(self.number("B")).decode("ascii")

    def list(self, item: Callable[[], Any]) -> list[Any]:
        return [item() for _ in range(self.number("H"))]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number("B")
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


@dataclass
class Network:
    readings: list[tuple[str, Tensor, Tensor, Tensor, int]]
    layers: list[Any]
    outputs: list[tuple[str, list[tuple[int, ...]]]]

    def run(self, known: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors = []
        for name, scale, low, high, _ in self.readings:
            scaled = known[name].astype(np.float32) * scale[:, None, None]
            rounded = np.floor(scaled + np.float32(0.5))
            tensors.append(np.clip(rounded, low[:, None, None], high[:, None, None]).astype(np.int64))
        for layer in self.layers:
            tensors.append(output_of(layer, tensors))
        return {name: np.concatenate([part_of(tensors, *part) for part in parts]) for name, parts in self.outputs}


def part_of(tensors: list[Tensor], tensor: int, first: int, channels: int, step: int, row: int, column: int) -> Tensor:
    return tensors[tensor][first : first + channels, row::step, column::step]


def output_of(layer: Any, tensors: list[Tensor]) -> Tensor:
    def column(values: Tensor) -> Tensor:
        return values.astype(np.int64)[:, None, None]

    sums = column(layer.bias)
    for source, height, width, above, before, stride, weights in layer.terms:
        values = tensors[source]
        channels, rows, columns = values.shape
        kernel = weights.astype(np.int64).reshape(-1, channels, height, width)
        padded = np.pad(values, ((0, 0), (above, height), (before, width)))
        for u in range(height):
            for v in range(width):
                part = padded[:, u : u + rows : stride, v : v + columns : stride]
                sums = sums + np.tensordot(kernel[:, :, u, v], part, 1)
    for source, shift in layer.skips:
        sums = sums + (tensors[source] << column(shift))
    sums = (sums + 2**31) % 2**32 - 2**31
    sums = sums >> column(layer.shift)
    if layer.leak:
        sums = np.where(sums < 0, (sums + 64) >> 7, sums)
    sums = np.clip(sums, column(layer.low), column(layer.high))
    if layer.gate != NOTHING:
        sums = np.where(tensors[layer.gate] > 0, sums, 0)
    return shuffled(sums, layer.shuffle)


def shuffled(values: Tensor, n: int) -> Tensor:
    channels, rows, columns = values.shape
    result = np.empty((channels // n**2, n * rows, n * columns), values.dtype)
    for o in range(channels):
        result[o // n**2, o // n % n :: n, o % n :: n] = values[o]
    return result


class ReferenceModel:
    def __init__(self, data: bytes) -> None:
        cursor = Cursor(data)
        assert cursor.bytes(8) == b"\x89BSM\r\n\x1a\n"
        version, crc = cursor.numbers("II")
        assert version == 1 and crc == zlib.crc32(data[16:])
        self._cursor = cursor
        self.arrays = [self._array() for _ in range(cursor.number("I"))]
        self.layers = [self._layer() for _ in range(cursor.number("I"))]
        self.name, self.id = cursor.text(), cursor.bytes(4)
        self.mean_bits, self.z_amax, self.y_channels, self.z_channels = cursor.numbers("BIHH")
        self.y_stride, self.z_stride, self.quality_steps = cursor.numbers("HHB")
        freqs, sizes, offsets, shifts, self.rows = (self.arrays[number] for number in cursor.numbers("5I"))
        self.tables = SimpleNamespace(freqs=freqs, sizes=sizes, offsets=offsets, shifts=shifts)
        self.variants = dict(cursor.list(self._variant))
        self.syntheses = cursor.list(self._synthesis)
        self.levels = cursor.list(lambda: cursor.number("I"))
        cursor.list(lambda: (cursor.bytes(4), cursor.number("B"), cursor.list(lambda: cursor.number("I"))))
        worth = cursor.number("I")
        self.worth = None if worth == NOTHING else self.arrays[worth]
        self.encoders = dict(cursor.list(self._encoder))
        assert cursor.position == len(data)

    def _array(self) -> Tensor:
        kind, size = self._cursor.numbers("BI")
        dtype = np.dtype(TYPES[kind])
        return np.frombuffer(self._cursor.bytes(size * dtype.itemsize), dtype)

    def _layer(self) -> Any:
        cursor = self._cursor

        def term() -> tuple[Any, ...]:
            *rest, weights, factor = cursor.numbers("HHHBBBII")
            return (*rest, self._weights(weights, factor))

        def skip() -> tuple[Any, ...]:
            source, shift = cursor.numbers("HI")
            return source, self.arrays[shift]

        layer = SimpleNamespace(terms=cursor.list(term), skips=cursor.list(skip))
        layer.bias, layer.shift, layer.low, layer.high = (self.arrays[number] for number in cursor.numbers("4I"))
        layer.leak, layer.shuffle, layer.gate = cursor.numbers("BBI")
        return layer

    def _weights(self, number: int, factor: int) -> Tensor:
        if factor == NOTHING:
            return self.arrays[number]
        factors = self.arrays[factor]
        weights = self.arrays[number].astype(np.float32).reshape(len(factors), -1)
        return np.rint(weights * factors[:, None]).astype(np.int64).ravel()

    def _network(self) -> Network:
        cursor = self._cursor

        def reading() -> tuple[Any, ...]:
            name, (scale, low, high, rate) = cursor.text(), cursor.numbers("3IB")
            return name, self.arrays[scale], self.arrays[low], self.arrays[high], rate

        readings = cursor.list(reading)
        layers = cursor.list(lambda: self.layers[cursor.number("I")])
        outputs = cursor.list(lambda: (cursor.text(), cursor.list(lambda: cursor.numbers("3H3B"))))
        return Network(readings, layers, outputs)

    def _variant(self) -> tuple[int, Any]:
        cursor = self._cursor
        number, tile, groups = cursor.numbers("3B")
        h_s = self._network()
        stages = cursor.list(lambda: (cursor.list(lambda: cursor.numbers("3B")), self._network()))
        return number, SimpleNamespace(tile=tile, groups=groups, h_s=h_s, stages=stages)

    def _synthesis(self) -> Any:
        reach, shuffle, bits, filters, gray_filters = self._cursor.numbers("HBBII")
        networks = [self._network() for _ in range(self.quality_steps)]
        return SimpleNamespace(
            reach=reach, shuffle=shuffle, bits=bits, filters=filters, gray_filters=gray_filters, networks=networks
        )

    def _encoder(self) -> tuple[int, Any]:
        level, variant, reach, patch = self._cursor.numbers("BBHB")
        g_a, h_a = ([self._network() for _ in range(self.quality_steps)] for _ in range(2))
        return level, SimpleNamespace(variant=variant, reach=reach, patch=patch, g_a=g_a, h_a=h_a)

    def analyse(self, pixels: Tensor, level: int, step: int) -> tuple[Tensor, Tensor]:
        """y, and z as it is coded, of uint8 (H, W, 3)."""
        height, width = (-side % self.z_stride for side in pixels.shape[:2])
        padded = np.pad(pixels, ((0, height), (0, width), (0, 0)), mode="edge").astype(np.int64)
        encoder = self.encoders[level]
        n = encoder.patch
        rows, columns = padded.shape[0] // n, padded.shape[1] // n
        patches = (2 * padded - 255).reshape(rows, n, columns, n, 3).transpose(1, 3, 4, 0, 2)
        y = encoder.g_a[step].run({"x": patches.reshape(-1, rows, columns)})["y"].astype(np.float32) / 4096
        z = encoder.h_a[step].run({"y": y})["z"].astype(np.float32) / 4096
        return y, np.clip(np.floor(z + np.float32(0.5)), -self.z_amax, self.z_amax)

    def decode(self, file: bytes) -> Tensor:
        """uint8 (H, W, 3), or (H, W) of a gray picture, before any filter."""
        cursor = Cursor(file)
        assert cursor.bytes(8) == b"\x89BSC\r\n\x1a\n" and cursor.number("B") == 1
        cursor.text()
        assert cursor.bytes(4) == self.id
        width, height = cursor.varint(), cursor.varint()
        mode, variant, step, checksum, _ = cursor.numbers("BBBII")
        while (kind := cursor.bytes(4)) != b"CODE":
            assert kind.islower()
            cursor.bytes(cursor.varint() + 4)
        stream = cursor.bytes(cursor.varint())
        y = self._latents(stream, self.variants[variant], height, width, checksum)
        synthesis = self.syntheses[self.levels[mode >> 4 & 7]]
        known = {"y": y.astype(np.float32) * np.float32(2.0**-self.mean_bits)}
        (patches,) = synthesis.networks[step].run(known).values()
        colours = shuffled(patches, synthesis.shuffle)
        pixels = np.clip((255 * colours + 2 ** (synthesis.bits - 1)) >> synthesis.bits, 0, 255)[:, :height, :width]
        pixels = (pixels.sum(0) + 1) // 3 if mode & 1 else pixels.transpose(1, 2, 0)
        return pixels.astype(np.uint8)

    def _latents(self, stream: bytes, variant: Any, height: int, width: int, checksum: int) -> Tensor:
        height, width = (-(-side // self.z_stride) * self.z_stride for side in (height, width))
        decoder = ReferenceDecoder(self.tables, stream)
        shape = self.z_channels, height // self.z_stride, width // self.z_stride
        rows = np.broadcast_to(64 + np.arange(shape[0])[:, None, None], shape)
        z = np.array(decoder.get(rows.ravel().tolist())).reshape(shape)
        assert np.abs(z).max() <= self.z_amax
        known = variant.h_s.run({variant.h_s.readings[0][0]: z})
        y = np.zeros((self.y_channels, height // self.y_stride, width // self.y_stride), np.int64)
        crc, size = 0, self.y_channels // variant.groups
        for slots, network in variant.stages:
            found = network.run(known)
            mean, scale = found.pop("mean"), found.pop("scale")
            indexes = self.rows[np.clip(scale, 0, len(self.rows) - 1)]
            symbols = np.array(decoder.get(indexes.ravel().tolist())).reshape(mean.shape)
            decoded = (symbols << self.mean_bits) + mean
            crc = zlib.crc32(decoded.astype("<i4").tobytes(), crc)
            known |= found
            for position, (group, row, column) in enumerate(slots):
                part = decoded[position * size : (position + 1) * size]
                known[f"y.{group}.{row}{column}"] = part
                y[group * size : (group + 1) * size, row :: variant.tile, column :: variant.tile] = part
        decoder.finish()
        assert crc == checksum
        return y
