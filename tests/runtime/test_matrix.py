"""Any engine decodes what any engine encoded: the same latents, the same picture but for rounding."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from basic_runtime import container
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.decoding import decode_latent
from basic_runtime.engines import Backend, create_backend
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend
from basic_runtime.entropy import GroupedEntropy
from basic_runtime.tiles import Canvas

BACKENDS: dict[str, Callable[[], Backend]] = {
    "onnxruntime, 1 thread": lambda: OnnxRuntimeBackend(1),
    "onnxruntime, 2 threads": lambda: OnnxRuntimeBackend(2),
    "onnxruntime, no optimisation": lambda: OnnxRuntimeBackend(2, "none"),
    "onnxruntime, basic": lambda: OnnxRuntimeBackend(2, "basic"),
    "onnxruntime, extended": lambda: OnnxRuntimeBackend(2, "extended"),
    "openvino": lambda: create_backend("openvino", 2),
    "openvino, 1 thread": lambda: create_backend("openvino", 1),
    "torch": lambda: create_backend("torch"),
}


@pytest.fixture(scope="module")
def codecs(tiny_path: Path) -> dict[str, Codec]:
    bundle = Bundle(tiny_path)
    return {name: Codec(bundle, make()) for name, make in BACKENDS.items()}


@cache
def entropy_of(codec: Codec, variant: int) -> GroupedEntropy:
    bundle, backend = codec.bundle, codec.backend
    return GroupedEntropy(
        bundle,
        variant,
        lambda graph: backend.load(bundle.graph_path(graph), external_data=bundle.weights_folder, strict=True),
    )


def latents(codec: Codec, data: bytes) -> np.ndarray:
    """yhat of a file on the codec's engine."""
    content = container.read(data)
    rows, columns = (-(-side // 64) * 64 for side in (content.header.height, content.header.width))
    entropy = entropy_of(codec, content.header.entropy_variant)
    return decode_latent(entropy, content.data, Canvas(rows, columns, 1024, 64))[0].whole()


@pytest.mark.parametrize("level", [0, 7])
@pytest.mark.parametrize("size", [(17, 31), (130, 200)])
def test_each_decodes_each(
    codecs: dict[str, Codec],
    photo: Callable[[int, int], np.ndarray],
    size: tuple[int, int],
    level: int,
) -> None:
    picture = photo(*size)
    for encoder in codecs.values():
        data = encoder.encode(picture, quality=80, level=level)
        expected_latents, expected = latents(encoder, data), encoder.decode(data)
        for name, decoder in codecs.items():
            np.testing.assert_array_equal(latents(decoder, data), expected_latents, err_msg=name)
            difference = np.abs(decoder.decode(data).astype(int) - expected)
            assert difference.max() <= 1 and (difference > 0).mean() < 0.001, name


def test_thread_counts_give_equal_files(codecs: dict[str, Codec], photo: Callable[[int, int], np.ndarray]) -> None:
    picture = photo(512, 768)
    one, two = (codecs[f"onnxruntime, {threads}"] for threads in ("1 thread", "2 threads"))
    data = one.encode(picture, quality=60)
    np.testing.assert_array_equal(latents(one, data), latents(two, data))
    np.testing.assert_array_equal(one.decode(data), two.decode(data))
