"""Speed and size of entropy coders on the same symbols, Python call to Python call, one thread.

    python benchmarks/coder.py [--symbols 2000000] [--rounds 7] [--json FILE]

Ours with each kernel that runs here; beside it `compressai` (its ans extension with its own 16-bit tables) and
`constriction` (ANS, quantised Gaussians), each if installed; `--symbols-slow` limits how many symbols they get.
Symbols are round(N(0, s)), s from the 64-scale table, with mean entropies of 0.2, 1 and 3 bits; input and output are
NumPy arrays. "over" is the size over the exact Gaussian code length of these symbols. Rounds of all coders are
interleaved, so that other load on the machine meets all of them.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from basic_runtime.coder import Decoder, Encoder, Tables, kernels
from basic_runtime.tables import SCALES, gaussian_rows

Array = NDArray[Any]
WORKLOADS = (0.2, 1.0, 3.0)
OURS = "basic "


@dataclass
class Workload:
    bits: float
    symbols: Array  # int16
    indexes: Array  # uint8
    code_lengths: Array  # exact bits of each symbol

    def head(self, count: int) -> Workload:
        return Workload(self.bits, self.symbols[:count], self.indexes[:count], self.code_lengths[:count])


@dataclass
class Result:
    coder: str
    workload: float
    symbols: int
    size: int = 0
    over_percent: float = 0.0
    encode_s: list[float] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)

    def rates(self, seconds: list[float]) -> tuple[float, float]:
        """Median and best, in million symbols per second."""
        return self.symbols / statistics.median(seconds) / 1e6, self.symbols / min(seconds) / 1e6


def gaussian_bits(scale: float) -> Array:
    """Exact code length of |symbol| = 0, 1, 2 ... under round(N(0, scale))."""
    edges = (np.arange(math.ceil(9 * scale) + 3) - 0.5) / (scale * math.sqrt(2))
    upper = np.array([0.5 * math.erfc(edge) for edge in edges])
    return np.asarray(-np.log2(np.maximum(upper[:-1] - upper[1:], 1e-300)))


def make_workload(bits: float, count: int) -> Workload:
    """P(row) ~ exp(-a row), with a such that the mean entropy is ``bits``."""
    tables = [gaussian_bits(float(scale)) for scale in SCALES]
    entropies = np.array([(t * 2.0**-t * np.where(np.arange(t.size), 2, 1)).sum() for t in tables])
    low, high = -1.0, 5.0
    for _ in range(60):
        a = (low + high) / 2
        weights = np.exp(-a * np.arange(SCALES.size))
        weights /= weights.sum()
        low, high = (a, high) if weights @ entropies > bits else (low, a)
    rng = np.random.default_rng(1)
    indexes = rng.choice(SCALES.size, count, p=weights).astype(np.uint8)
    symbols = np.rint(rng.normal(size=count) * SCALES[indexes]).astype(np.int16)
    lengths = np.empty(count)
    for row, table in enumerate(tables):
        here = indexes == row
        lengths[here] = table[np.abs(symbols[here].astype(int))]
    return Workload(bits, symbols, indexes, lengths)


Coder = tuple[Callable[[Workload], Any], Callable[[Workload, Any], Array], Callable[[Any], int]]


def basic(tables: Tables, kernel: str) -> Coder:
    encoder = Encoder(tables, kernel=kernel)
    outputs: dict[int, Array] = {}

    def encode(work: Workload) -> bytes:
        encoder.put(work.symbols, work.indexes)
        return encoder.finish()

    def decode(work: Workload, data: bytes) -> Array:
        out = outputs.setdefault(work.symbols.size, np.empty(work.symbols.size, np.int16))
        decoder = Decoder(tables, data, kernel=kernel)
        decoder.get(work.indexes, out=out)
        decoder.finish()
        return out

    return encode, decode, len


def compressai() -> Coder:
    from compressai import ans
    from compressai.entropy_models import GaussianConditional

    model = GaussianConditional(SCALES.tolist())
    model.update()
    cdfs, sizes, offsets = (
        x.tolist() for x in (model.quantized_cdf, model.cdf_length.reshape(-1), model.offset.reshape(-1))
    )

    def encode(work: Workload) -> Any:
        rows = work.indexes.tolist()
        return ans.RansEncoder().encode_with_indexes(work.symbols.tolist(), rows, cdfs, sizes, offsets)

    def decode(work: Workload, data: Any) -> Array:
        symbols = ans.RansDecoder().decode_with_indexes(data, work.indexes.tolist(), cdfs, sizes, offsets)
        return np.array(symbols, np.int16)

    return encode, decode, len


def constriction() -> Coder:
    import constriction

    stack = constriction.stream.stack
    family = constriction.stream.model.QuantizedGaussian(-4096, 4096)

    def encode(work: Workload) -> Any:
        coder = stack.AnsCoder()
        zeros = np.zeros(work.symbols.size)
        coder.encode_reverse(work.symbols.astype(np.int32), family, zeros, SCALES[work.indexes])
        return coder.get_compressed()

    def decode(work: Workload, data: Any) -> Array:
        zeros = np.zeros(work.symbols.size)
        return np.asarray(stack.AnsCoder(data).decode(family, zeros, SCALES[work.indexes]))

    return encode, decode, lambda data: 4 * int(data.size)


def available_coders() -> dict[str, Coder]:
    tables = gaussian_rows().coder_tables()
    coders = {OURS + kernel: basic(tables, kernel) for kernel in kernels()}
    for make in (compressai, constriction):
        try:
            coders[make.__name__] = make()
        except ImportError as error:
            print(f"{make.__name__} left out: {error}")
    return coders


def measure(coders: dict[str, Coder], work: Workload, slow_count: int, rounds: int) -> list[Result]:
    works = {name: work if name.startswith(OURS) else work.head(slow_count) for name in coders}
    results = {name: Result(name, work.bits, w.symbols.size) for name, w in works.items()}
    for _ in range(rounds + 1):  # the first warms up
        for name, (encode, decode, size) in coders.items():
            mine, result = works[name], results[name]
            begin = time.perf_counter()
            data = encode(mine)
            middle = time.perf_counter()
            decoded = decode(mine, data)
            result.decode_s.append(time.perf_counter() - middle)
            result.encode_s.append(middle - begin)
            if not np.array_equal(decoded, mine.symbols):
                raise SystemExit(f"{name} did not give the symbols back")
            result.size = size(data)
            result.over_percent = 100 * (8 * result.size / float(mine.code_lengths.sum()) - 1)
    for result in results.values():
        del result.encode_s[0], result.decode_s[0]
    return list(results.values())


@click.command()
@click.option("--symbols", default=2_000_000, show_default=True)
@click.option("--symbols-slow", default=400_000, show_default=True, help="For the other coders.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(symbols: int, symbols_slow: int, rounds: int, output: Path | None) -> None:
    """Print a row for each coder and workload."""
    coders = available_coders()
    rows = []
    print("bits coder         symbols  encode Msym/s  (best)  decode Msym/s  (best)   over %")
    for bits in WORKLOADS:
        work = make_workload(bits, symbols)
        for result in measure(coders, work, min(symbols, symbols_slow), rounds):
            encode, decode = result.rates(result.encode_s), result.rates(result.decode_s)
            print(
                f"{bits:4.1f} {result.coder:<13}{result.symbols:>9}{encode[0]:>15.1f} ({encode[1]:6.1f})"
                f"{decode[0]:>15.1f} ({decode[1]:6.1f}){result.over_percent:>9.3f}"
            )
            rows.append(
                {
                    "bits": bits,
                    "coder": result.coder,
                    "symbols": result.symbols,
                    "encode_msym_s": {"median": encode[0], "best": encode[1]},
                    "decode_msym_s": {"median": decode[0], "best": decode[1]},
                    "bytes": result.size,
                    "over_percent": result.over_percent,
                }
            )
    if output:
        values = {"machine": platform.processor() or platform.machine(), "results": rows}
        output.write_text(json.dumps(values, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
