"""A decoder written from docs/coder-stream.md alone, slow and plain: what the C++ one is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from basic_runtime.tables import TableArrays


class ReferenceDecoder:
    """Decodes well-formed streams; any rule that does not hold is an AssertionError or IndexError."""

    def __init__(self, tables: TableArrays, data: bytes) -> None:
        self.rows = []
        begin = 0
        for size, offset, shift in zip(tables.sizes, tables.offsets, tables.shifts, strict=True):
            self.rows.append((tables.freqs[begin : begin + size].tolist(), int(offset), int(shift)))
            begin += size
        self.data = list(data)
        flags = self.data.pop(0)
        assert flags < 16 and flags & 7 < 7
        self.lanes = 1 << (flags & 7)
        self.body = self._varint() if self.lanes > 1 else None
        side_bytes = self._varint() if flags & 8 else 0
        self.states = [self._number(4) for _ in range(self.lanes)]
        side = self.data[len(self.data) - side_bytes :]
        self.side = [byte >> bit & 1 for byte in side for bit in range(8)]
        self.data = self.data[: len(self.data) - side_bytes]
        self.words = [self._number(2) for _ in range(len(self.data) // 2)]
        assert not self.data
        self.decoded = 0

    def get(self, indexes: Sequence[int]) -> list[int]:
        codes = []
        for position, index in enumerate(indexes):
            if self.decoded == self.body:
                self._enter_tail()
            lane = position % self.lanes if self.body is None or self.decoded < self.body else 0
            codes.append(self._code(self.rows[index][0], lane))
            self.decoded += 1
        lows = [self._bits(self.rows[index][2]) for index in indexes]
        symbols = []
        for code, low, index in zip(codes, lows, indexes, strict=True):
            freqs, offset, shift = self.rows[index]
            high = offset + code if code < len(freqs) - 1 else self._escape(offset, len(freqs))
            symbols.append((high << shift) + low)
            assert -(2**31) <= symbols[-1] < 2**31
        return symbols

    def finish(self) -> None:
        if self.decoded == self.body:
            self._enter_tail()
        assert self.body is None or self.decoded >= self.body
        assert not self.words
        assert self.states[0] == 2**16
        assert len(self.side) < 8 and not any(self.side)

    def _enter_tail(self) -> None:
        assert not self.words
        assert all(2**16 <= state < 2**17 for state in self.states[1:])
        self.words = [state % 2**16 for state in self.states[1:]]
        self.states = self.states[:1]
        self.body = -1  # never reached again

    def _code(self, freqs: list[int], lane: int) -> int:
        state = self.states[lane]
        slot = state % 4096
        code, start = 0, 0
        while slot >= start + freqs[code]:
            start += freqs[code]
            code += 1
        state = freqs[code] * (state // 4096) + slot - start
        if state < 2**16:
            state = state * 2**16 + self.words.pop(0)
        self.states[lane] = state
        return code

    def _escape(self, offset: int, size: int) -> int:
        below = self._bits(1)
        exponent = 0
        while self._bits(1) == 0:
            exponent += 1
        assert exponent <= 32
        distance = 2**exponent + self._bits(exponent)
        return offset - distance if below else offset + size - 2 + distance

    def _bits(self, count: int) -> int:
        assert len(self.side) >= count
        bits, self.side = self.side[:count], self.side[count:]
        return sum(bit << i for i, bit in enumerate(bits))

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data.pop(0)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def _number(self, count: int) -> int:
        value = int.from_bytes(bytes(self.data[:count]), "little")
        assert len(self.data) >= count
        del self.data[:count]
        return value
