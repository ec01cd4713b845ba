"""Files of the past: every one must decode, with every engine here, to the picture it decoded to when it was made.

A file's checksum of the decoded latent makes a wrong latent an error, so decoding at all proves the entropy path;
pixels may differ by the last bit of g_s.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from basic_runtime.codec import Codec
from basic_runtime.imageio import read_picture

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.basic"))


@cache
def codec(backend: str) -> Codec:
    return Codec(FOLDER / "tiny-golden", backend)


def test_there_are_golden_files() -> None:
    assert len(FILES) >= 8


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_golden_file_decodes_as_ever(file: Path, backend: str) -> None:
    expected = read_picture(str(file.with_suffix(".png")))
    found = codec(backend).decode_picture(file.read_bytes())
    assert found.pixels.shape == expected.pixels.shape
    difference = np.abs(found.pixels.astype(int) - expected.pixels)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    if expected.alpha is None:
        assert found.alpha is None
    else:
        np.testing.assert_array_equal(found.alpha, expected.alpha)


def test_golden_metadata_survives() -> None:
    found = codec("onnxruntime").decode_picture((FOLDER / "metadata.basic").read_bytes())
    assert found.icc == b"golden profile" * 20
    assert found.xmp == b"<x:xmpmeta/>"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
def test_golden_vectors_pass(backend: str) -> None:
    assert [check.error for check in codec(backend).verify() if check.error] == []
