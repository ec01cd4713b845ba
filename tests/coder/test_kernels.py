"""All kernels of this machine write and read the same bytes, and treat damage alike."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basic_runtime.coder import Decoder, Encoder, KernelError, StreamError, Tables, kernels
from basic_runtime.errors import BasicError
from basic_runtime.tables import TableArrays, gaussian_rows

from .conftest import extreme_rows

KERNELS = kernels()
PAIRS = [(writer, reader) for writer in KERNELS for reader in KERNELS]
LANES = [1, 2, 4, 8, 16, 32, 64]
EXTREME = extreme_rows().coder_tables()
GAUSSIAN = gaussian_rows().coder_tables()

Stage = tuple[np.ndarray, np.ndarray]


def encode(tables: Tables, stages: list[Stage], lanes: int, kernel: str) -> bytes:
    encoder = Encoder(tables, kernel=kernel)
    for symbols, indexes in stages:
        encoder.put(symbols, indexes)
    return encoder.finish(lanes)


def decode(tables: Tables, data: bytes, stages: list[Stage], kernel: str) -> list[list[int]]:
    decoder = Decoder(tables, data, kernel=kernel)
    result = []
    for symbols, indexes in stages:
        out = np.empty(indexes.shape, symbols.dtype)
        result.append(decoder.get(indexes, out=out).tolist())
    decoder.finish()
    return result


def outcome(tables: Tables, data: bytes, stages: list[Stage], kernel: str) -> str | list[list[int]]:
    """The symbols, or the error's text."""
    try:
        return decode(tables, data, stages, kernel)
    except StreamError as error:
        return str(error)


def random_stages(seed: int, rows: int, sizes: tuple[int, ...], dtype: type) -> list[Stage]:
    """Mostly small symbols, a few of any size the type holds."""
    rng = np.random.default_rng(seed)
    stages = []
    for size in sizes:
        info = np.iinfo(dtype)
        symbols = np.rint(rng.standard_t(3, size) * 4).astype(dtype)
        wild = rng.random(size) < 0.03
        symbols[wild] = rng.integers(info.min, info.max, int(wild.sum()), endpoint=True)
        stages.append((symbols, rng.integers(0, rows, size).astype(np.uint8)))
    return stages


def test_scalar_is_always_there_and_last() -> None:
    assert KERNELS[-1] == "scalar"
    assert len(set(KERNELS)) == len(KERNELS)


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_every_pair(writer: str, reader: str, lanes: int, dtype: type) -> None:
    for tables in (EXTREME, GAUSSIAN):
        stages = random_stages(lanes, tables.rows, (700, 1, 0, 3000, 63, 64, 65), dtype)
        data = encode(tables, stages, lanes, writer)
        assert data == encode(tables, stages, lanes, "scalar")
        assert decode(tables, data, stages, reader) == [symbols.tolist() for symbols, _ in stages]


@given(
    st.lists(st.integers(0, 300), max_size=4),
    st.sampled_from([0, *LANES]),
    st.sampled_from(PAIRS),
    st.sampled_from([np.int16, np.int32]),
    st.integers(0, 2**32),
)
def test_any_stages(sizes: list[int], lanes: int, pair: tuple[str, str], dtype: type, seed: int) -> None:
    stages = random_stages(seed, EXTREME.rows, tuple(sizes), dtype)
    data = encode(EXTREME, stages, lanes, pair[0])
    assert data == encode(EXTREME, stages, lanes, "scalar")
    assert decode(EXTREME, data, stages, pair[1]) == [symbols.tolist() for symbols, _ in stages]


@pytest.mark.parametrize("kernel", KERNELS[:-1])
@pytest.mark.parametrize("lanes", [8, 16, 32, 64])
def test_damage_is_met_as_by_the_scalar_kernel(kernel: str, lanes: int) -> None:
    stages = random_stages(9, EXTREME.rows, (150, 0, 70), np.int32)
    data = encode(EXTREME, stages, lanes, kernel)
    damaged = [data[:length] for length in range(0, len(data), 3)]
    damaged += [data + extra for extra in (b"\0", b"\0\0", b"\xff" * 40)]
    for bit in range(0, 8 * len(data), 5):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for case in damaged:
        # Which rule a stream is found to break first may depend on the kernel; that it breaks one may not.
        wanted, found = (outcome(EXTREME, case, stages, name) for name in ("scalar", kernel))
        assert found == wanted or (isinstance(found, str) and isinstance(wanted, str))


@given(st.binary(max_size=400), st.integers(0, 15), st.sampled_from(KERNELS))
def test_noise(noise: bytes, flags: int, kernel: str) -> None:
    stages = random_stages(3, EXTREME.rows, (200, 70), np.int32)
    result = outcome(EXTREME, bytes([flags]) + noise, stages, kernel)
    assert isinstance(result, list) or result.startswith("coder stream: ")


def test_rows_far_apart(gaussian: TableArrays) -> None:
    """Vector kernels look up 64 neighbouring rows at a time; symbols of one call may use more, or others."""
    copies = [gaussian] * 4
    tables = TableArrays(
        *(np.concatenate([getattr(part, name) for part in copies]) for name in ("freqs", "sizes", "offsets", "shifts"))
    ).coder_tables()
    rng = np.random.default_rng(4)
    for low, high in ((0, 64), (37, 101), (192, 256), (0, 256), (255, 256)):
        stage = (
            rng.integers(-40, 41, 2500).astype(np.int16),
            rng.integers(low, high, 2500).astype(np.uint8),
        )
        for writer, reader in PAIRS:
            data = encode(tables, [stage], 64, writer)
            assert data == encode(tables, [stage], 64, "scalar")
            assert decode(tables, data, [stage], reader) == [stage[0].tolist()]


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_is_told(name: str) -> None:
    encoder = Encoder(EXTREME, kernel=name)
    assert encoder.kernel == name
    assert Decoder(EXTREME, encoder.finish(), kernel=name).kernel == name


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(KernelError, match="no kernel 'sse9' here.*scalar"):
        Encoder(EXTREME, kernel="sse9")
    with pytest.raises(KernelError, match="sse9"):
        Decoder(EXTREME, bytes.fromhex("0000000100"), kernel="sse9")
    assert issubclass(KernelError, BasicError)


@pytest.mark.parametrize("name", [*KERNELS, "", "sse9"])
def test_environment_variable(name: str) -> None:
    program = (
        "import numpy as np\n"
        "from basic_runtime.coder import *\n"
        "tables = Tables(np.array([4095, 1], 'u2'), np.array([2], 'u2'), np.zeros(1, 'i4'), np.zeros(1, 'u1'))\n"
        "try: print(Encoder(tables).kernel)\n"
        "except KernelError as error: print('refused:', error)"
    )
    environment = {**os.environ, "BASIC_CODER_KERNEL": name}
    result = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    if name == "sse9":
        assert result.stdout.startswith("refused: no kernel 'sse9' here: BASIC_CODER_KERNEL may be ")
    else:
        assert result.stdout.strip() == (name or KERNELS[0])
