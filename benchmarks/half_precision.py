"""What a float16 pixel path costs: PyTorch rounds each value as an engine of --precision fp16 does.

    python benchmarks/half_precision.py

Prints, per picture, quality and level, the change of PSNR when the decoder or the encoder is float16, and of the file's
size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from onnx import numpy_helper
from skimage import data

from basic_export import typed
from basic_runtime.codec import Codec
from basic_runtime.engines import Engine
from basic_runtime.engines.torch import TorchBackend, TorchEngine
from basic_runtime.metrics import psnr


class Half(TorchBackend):
    """The graphs that basic-export builds engines of, node by node."""

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        proto = typed.load_folded(model, external_data)
        proto = proto if strict else typed.with_half(proto)
        constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in proto.graph.initializer}
        return TorchEngine(proto.graph, constants, self.threads)


def pictures() -> dict[str, np.ndarray]:
    """A photo, and what drives activations to their ends: noise, black and white noise, a checkerboard."""
    rng = np.random.default_rng(0)
    board = np.kron(np.indices((24, 32)).sum(0) % 2, np.ones((8, 8)))
    return {
        "photo": data.astronaut()[:192, :256],
        "noise": rng.integers(0, 256, (192, 256, 3)).astype(np.uint8),
        "black and white": (rng.integers(0, 2, (192, 256, 1)) * 255).repeat(3, 2).astype(np.uint8),
        "checkerboard": board[..., None].repeat(3, 2).astype(np.uint8) * 255,
    }


def main() -> None:
    exact, half = Codec(backend="onnxruntime"), Codec(backend=Half(2))
    print("picture          quality level   PSNR  decoder dB  encoder dB  size %")
    for name, picture in pictures().items():
        for quality in (30, 100):
            for level in (3, 7):
                files = [codec.encode(picture, quality=quality, level=level, effort=0) for codec in (exact, half)]
                wanted = psnr(picture, exact.decode(files[0]))
                decoder = psnr(picture, half.decode(files[0])) - wanted
                encoder = psnr(picture, exact.decode(files[1])) - wanted
                size = 100 * (len(files[1]) / len(files[0]) - 1)
                print(f"{name:16} {quality:7} {level:5} {wanted:6.2f} {decoder:+11.4f} {encoder:+11.4f} {size:+7.3f}")


if __name__ == "__main__":
    main()
