"""The codec on the tiny bundle: sizes, gray, metadata, levels, quality, damage."""

from __future__ import annotations

import gc
import io
import math
import os
import pickle
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from basic_runtime import container
from basic_runtime.codec import Codec
from basic_runtime.engines import available_backends, create_backend
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend
from basic_runtime.errors import (
    BasicError,
    DesyncError,
    EngineError,
    FormatError,
    LimitError,
    TruncatedError,
    WrongBundleError,
)
from basic_runtime.flow import RowStep, TileStep
from basic_runtime.info import file_info
from basic_runtime.limits import Limits
from basic_runtime.metrics import psnr
from basic_runtime.picture import Picture
from basic_runtime.planes import Band, Planes
from basic_runtime.quality import quality_of_step, quality_step

from .test_bundle import edit_manifest

Photo = Callable[[int, int], np.ndarray]


@pytest.fixture(scope="module")
def codec(tiny_path: Path) -> Codec:
    return Codec(tiny_path, threads=2)


@pytest.mark.parametrize("size", [(1, 1), (64, 1), (1, 64), (31, 17), (65, 127), (512, 768), (3000, 2000)])
def test_any_size_comes_back(codec: Codec, photo: Photo, size: tuple[int, int]) -> None:
    picture = photo(*size)
    data = codec.encode(picture, quality=90)
    back = codec.decode(data)
    assert back.shape == picture.shape and back.dtype == np.uint8
    assert psnr(picture, back) > 20
    np.testing.assert_array_equal(back, codec.decode(data))


@pytest.mark.parametrize("size", [(96, 64), (1100, 1030)])  # whole, and in tiles
def test_a_picture_leaves_nothing_behind(codec: Codec, photo: Photo, size: tuple[int, int]) -> None:
    """Rings of objects kept 9 MB of every photo that was encoded until Python looked for rings."""
    picture = photo(*size)
    data = codec.encode(picture, quality=50)
    gc.collect()
    gc.disable()
    try:
        codec.decode(codec.encode(picture, quality=50))
        kept = [kind.__name__ for kind in map(type, gc.get_objects()) if kind in (Planes, Band, RowStep, TileStep)]
    finally:
        gc.enable()
    assert len(data) > 0 and not kept


@pytest.mark.parametrize("size", [(1, 1), (40, 70)])
def test_gray_comes_back_as_gray(codec: Codec, photo: Photo, size: tuple[int, int]) -> None:
    picture = photo(*size)[:, :, 1].copy()
    data = codec.encode(picture, quality=90)
    back = codec.decode(data)
    assert back.shape == picture.shape and file_info(data).gray
    assert psnr(picture, back) > 20


def test_metadata_and_alpha_survive(codec: Codec, photo: Photo) -> None:
    pixels = photo(20, 30)
    alpha = np.arange(600, dtype=np.uint8).reshape(20, 30)
    data = codec.encode(pixels, alpha=alpha, icc=b"profile", exif=b"II*\0....", xmp=b"<x/>")
    back = codec.decode_picture(data)
    np.testing.assert_array_equal(back.alpha, alpha)
    assert (back.icc, back.exif, back.xmp) == (b"profile", b"II*\0....", b"<x/>")
    assert codec.encode(Picture(pixels, alpha, b"profile", b"II*\0....", b"<x/>")) == data
    info = file_info(data)
    assert info.has_alpha and info.metadata == ("ICC", "EXIF", "XMP")


def test_every_level_decodes_every_file(codec: Codec, photo: Photo) -> None:
    picture = photo(80, 100)
    quality_of = {}
    for encoded in range(8):
        data = codec.encode(picture, quality=90, level=encoded)
        assert file_info(data).level == encoded
        np.testing.assert_array_equal(codec.decode(data), codec.decode(data, level=encoded))
        quality_of[encoded] = [psnr(picture, codec.decode(data, level=level)) for level in range(8)]
    assert quality_of[7][7] > quality_of[7][0] > 15


def test_quality_is_monotonic(codec: Codec, photo: Photo) -> None:
    picture = photo(200, 300)
    files = [codec.encode(picture, quality=quality) for quality in (1, 30, 60, 100)]
    sizes = [len(data) for data in files]
    errors = [psnr(picture, codec.decode(data)) for data in files]
    assert sizes == sorted(sizes) and errors == sorted(errors)


def test_quality_maps_onto_all_steps() -> None:
    steps = [quality_step(quality) for quality in range(1, 101)]
    assert steps == sorted(steps) and set(steps) == set(range(64))
    assert all(quality_step(quality_of_step(step)) == step for step in range(64))


def test_info_is_of_pictures_of_any_size(codec: Codec, tiny_path: Path, photo: Photo) -> None:
    data = codec.encode(photo(44, 33))
    small = Codec(tiny_path, limits=Limits(max_pixels=1000, max_side=40))
    assert file_info(data, limits=small.limits) == file_info(data)
    with pytest.raises(LimitError):
        small.decode(data)


def test_info_tells_what_was_asked_for(codec: Codec, photo: Photo) -> None:
    data = codec.encode(photo(33, 44), quality=70, level=3)
    info = file_info(data)
    assert (info.width, info.height, info.level, info.model_name) == (44, 33, 3, "tiny-1")
    assert info.quality_step == quality_step(70) and info.bytes == len(data)
    assert abs(info.quality - 70) <= 1 and not info.gray and not info.has_alpha and info.metadata == ()
    assert sum(size for _, size in info.chunks) < len(data)


def test_files_are_any_bytes(codec: Codec, photo: Photo) -> None:
    data = codec.encode(photo(33, 44))
    expected, told = codec.decode(data), file_info(data)
    strided = memoryview(np.repeat(np.frombuffer(data, np.uint8), 2).tobytes())[::2]
    for other in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8).data, strided):
        np.testing.assert_array_equal(codec.decode(other), expected)
        assert file_info(other) == told
    for wrong in ("photo.basic", Path("photo.basic"), None, io.BytesIO(data)):
        with pytest.raises(TypeError, match=r"a file's bytes are wanted, not .*read_bytes\(\)"):
            codec.decode(wrong)


@pytest.mark.parametrize("options", [{"threads": 1}, {"backend": "onnxruntime", "threads": 2, "tile_pixels": 64}])
def test_threads_share_a_codec(tiny_path: Path, photo: Photo, options: dict[str, Any]) -> None:
    codec = Codec(tiny_path, **options)
    pictures = [photo(50 + 9 * i, 70) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(codec.encode, pictures))
        backs = list(pool.map(codec.decode, files))
    single = Codec(tiny_path, **options)
    assert files == [single.encode(picture) for picture in pictures]
    for data, back in zip(files, backs, strict=True):
        np.testing.assert_array_equal(single.decode(data), back)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_forked_process_encodes_in_tiles(tiny_path: Path, photo: Photo) -> None:
    """It waited for threads that its parent alone has."""
    codec, picture = Codec(tiny_path, "onnxruntime", threads=2, tile_pixels=64), photo(100, 150)
    data = codec.encode(picture)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if codec.encode(picture) == data else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_codec_goes_to_a_new_process(tiny_path: Path, photo: Photo) -> None:
    """Its coder's tables could not be pickled."""
    codec, picture = Codec(tiny_path, threads=1, limits=Limits(max_pixels=20_000)), photo(100, 150)
    data = codec.encode(picture, quality=70, level=3)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(codec.encode, picture, quality=70, level=3).result() == data
        np.testing.assert_array_equal(pool.submit(codec.decode, data).result(), codec.decode(data))
        with pytest.raises(LimitError, match="max_pixels"):
            pool.submit(codec.encode, photo(200, 150)).result()


def test_a_copy_is_made_of_the_same_arguments(tiny_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Photo) -> None:
    monkeypatch.chdir(tiny_path.parent)
    traced: list[str] = []

    def trace(part: str) -> AbstractContextManager[None]:
        traced.append(part)
        return nullcontext()

    backend = create_backend("auto", 2, "float32")
    codec = Codec(tiny_path.name, backend, limits=Limits(max_side=300), trace=trace, tile_pixels=128)
    data = codec.encode(photo(40, 50))
    pickled = pickle.dumps(codec)
    monkeypatch.chdir("/")
    traced.clear()
    copy = pickle.loads(pickled)
    assert copy.bundle.path == tiny_path and copy.limits == Limits(max_side=300)
    assert type(copy.backend) is type(backend)
    assert (copy.backend.threads, copy.backend.precision) == (2, "float32")
    assert copy._networks.canvas(200, 200).side == codec._networks.canvas(200, 200).side
    copy.decode(data)
    assert not traced  # a trace stays where it is


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_back_ends_are_made_again_elsewhere(name: str) -> None:
    if name not in available_backends():
        pytest.skip(f"no {name} here")
    backend = create_backend(name, 3)
    backend.native_entropy = False
    copy = pickle.loads(pickle.dumps(backend))
    assert type(copy) is type(backend) and copy.settings() == backend.settings()
    assert (copy.threads, copy.precision, copy.native_entropy) == (3, "float32", False)


def test_back_ends_keep_their_own_settings() -> None:
    assert pickle.loads(pickle.dumps(OnnxRuntimeBackend(1, "basic"))).settings() == "basic"


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), "pixels must be"),
        (np.zeros((4, 4, 3), np.float32), "pixels must be uint8"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((4,), np.uint8), "pixels must be"),
    ],
)
def test_wrong_arrays_are_refused(codec: Codec, pixels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec.encode(pixels)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGB", (4, 4)), r"Image is a picture of Pillow's: .*read_picture\(path\), .*pillow.register\(\)"),
        ("a.png", r"not str: .*read_picture\(path\)"),
        (Path("a.png"), r"Path: .*read_picture\(path\)"),
        (b"\x89PNG", r"not bytes: .*read_picture\(path\)"),
        ([[1, 2], [3, 4]], r"uint8 array \(H, W, 3\) or \(H, W\), or a Picture, not list"),
        (None, "or a Picture, not NoneType"),
    ],
)
def test_what_is_no_array_is_told_how_it_becomes_one(codec: Codec, image: Any, message: str) -> None:
    """It was an AttributeError."""
    within, reaching = partial(codec.encode_within, max_bytes=900), partial(codec.encode_reaching, min_psnr=30)
    for encode in (codec.encode, within, reaching):
        with pytest.raises(TypeError, match=message):
            encode(image)
    with pytest.raises(TypeError, match=r"alpha must be a uint8 array \(H, W\), not list"):
        codec.encode(np.zeros((1, 1), np.uint8), alpha=[[255]])


def test_a_picture_holds_its_own_metadata(codec: Codec, photo: Photo) -> None:
    with pytest.raises(ValueError, match="holds its own"):
        codec.encode(Picture(photo(4, 4)), icc=b"profile")


@pytest.mark.parametrize(("quality", "level"), [(0, 7), (101, 7), (50, -1), (50, 8)])
def test_quality_and_level_out_of_range(codec: Codec, quality: int, level: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        codec.encode(np.zeros((4, 4, 3), np.uint8), quality=quality, level=level)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quality", "50"),
        ("quality", None),
        ("quality", 50.5),
        ("level", 7.0),
        ("level", "7"),
        ("effort", 1.0),
        ("effort", "1"),
    ],
)
def test_quality_level_and_effort_of_other_types(codec: Codec, name: str, value: object) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(TypeError, match=f"{name} must be a whole number, not {value!r}"):
        codec.encode(np.zeros((4, 4, 3), np.uint8), **given)


def test_targets_and_levels_of_other_types(codec: Codec, photo: Photo) -> None:
    picture, wrong = photo(64, 64), np.zeros((40, 40))
    data = codec.encode(picture)
    for call in (
        lambda: codec.encode_within(picture, "900"),
        lambda: codec.encode_within(picture, 900.5),
        lambda: codec.encode_within(picture, math.inf),
        lambda: codec.encode_reaching(picture, wrong),
        lambda: codec.decode(data, level=7.0),
        lambda: codec.load(wrong),
    ):
        with pytest.raises(TypeError, match="must be a (whole )?number, not ") as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="max_bytes must be 1 or more"):
        codec.encode_within(picture, 0)
    assert codec.encode_within(picture, 10**400) == codec.encode(picture, quality=100)


def test_numbers_of_numpy_are_as_good(codec: Codec, photo: Photo) -> None:
    """Sums of small ones overflow in NumPy, not here."""
    picture = photo(64, 64)
    data = codec.encode(picture, quality=100, level=7, effort=0)
    assert codec.encode(picture, quality=np.uint8(100), level=np.int8(7), effort=np.uint8(0)) == data
    np.testing.assert_array_equal(codec.decode(data, level=np.uint8(7)), codec.decode(data))
    assert codec.encode_within(picture, np.uint16(900)) == codec.encode_within(picture, 900)


def test_limits_and_sizes_are_checked_at_once(tiny_path: Path) -> None:
    assert Codec(tiny_path, limits=None).limits == Limits()
    wrong: dict[str, Any]
    for wrong, message in (
        ({"limits": 5}, r"limits must be Limits\(...\) or None, not int"),
        ({"backend": None}, "backend must be a Backend or a name, not NoneType"),
        ({"threads": 2.5}, "threads must be a whole number, not 2.5"),
        ({"tile_pixels": 64.0}, "tile_pixels must be a whole number, not 64.0"),
        ({"threads": True}, "threads must be a whole number, not True"),
        ({"trace": None}, "trace must be a function of a name, not NoneType"),
    ):
        with pytest.raises(TypeError, match=message):
            Codec(tiny_path, **wrong)
    assert type(Codec(tiny_path, threads=np.int64(2)).backend.threads) is int
    for value, kind in ((None, TypeError), ("3", TypeError), (1.5, TypeError), (0, ValueError)):
        with pytest.raises(kind, match="max_pixels"):
            Limits(max_pixels=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1, 1025])
@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "torch"])
def test_threads_out_of_range(tiny_path: Path, backend: str, threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads must be 1 to 1024, not {threads}"):
        Codec(tiny_path, backend, threads=threads)


def test_threads_and_precision_of_a_backend_are_its_own(tiny_path: Path) -> None:
    with pytest.raises(ValueError, match="threads are those of the backend: give them to create_backend"):
        Codec(tiny_path, create_backend("onnxruntime", 2), threads=1)
    with pytest.raises(ValueError, match="precision is that of the backend: give it to create_backend"):
        Codec(tiny_path, create_backend("onnxruntime", 2), precision="float32")


def test_a_codec_computes_in_the_precision_that_is_asked_for(tiny_path: Path) -> None:
    for precision in ("int16", "float32"):
        assert Codec(tiny_path, precision=precision).backend.precision == precision
    for name, way_out in (("auto", "choose one of these"), ("onnxruntime", "take auto")):
        with pytest.raises(EngineError, match=rf"engine '{name}' computes in .*, not in fp16: {way_out}"):
            Codec(tiny_path, name, precision="fp16")


def test_a_z_that_is_no_number_is_an_error(tiny_path: Path) -> None:
    codec = Codec(tiny_path, "onnxruntime")
    for wrong in (np.nan, np.inf):
        z = np.full((1, 2, 1, 1), wrong, np.float32)
        with pytest.raises(EngineError, match="z holds NaN or infinity"):
            codec._networks.entropy_on(0, codec._networks.whole).rounded(z)


def test_limits_hold_before_any_work(tiny_path: Path, photo: Photo) -> None:
    codec = Codec(tiny_path, limits=Limits(max_pixels=100))
    with pytest.raises(LimitError, match="max_pixels"):
        codec.encode(photo(11, 10))
    with pytest.raises(LimitError, match="max_pixels"):
        codec.decode(Codec(tiny_path).encode(photo(11, 10)))


def test_a_header_that_claims_a_huge_picture_is_refused(codec: Codec, photo: Photo) -> None:
    content = container.read(codec.encode(photo(8, 8)))
    vast = Limits(max_pixels=1 << 62, max_side=1 << 31)
    bomb = replace(content, header=replace(content.header, width=1_000_000, height=1_000_000))
    with pytest.raises(LimitError):
        codec.decode(container.write(bomb, vast))
    # Within the limits, the missing latents are found before a graph runs on them.
    bomb = replace(content, header=replace(content.header, width=8_000, height=8_000))
    with pytest.raises(FormatError, match="coded latents are damaged"):
        codec.decode(container.write(bomb))


def test_a_file_of_another_model_names_both(codec: Codec, other_path: Path, photo: Photo) -> None:
    other = Codec(other_path)
    data = other.encode(photo(8, 8))
    with pytest.raises(WrongBundleError) as caught:
        codec.decode(data)
    for part in ("tiny-1", codec.bundle.model_id, "tiny-2", other.bundle.model_id, "--bundle"):
        assert part in str(caught.value)


def test_other_latents_than_the_encoder_had(codec: Codec, photo: Photo) -> None:
    content = container.read(codec.encode(photo(8, 8)))
    changed = replace(content, header=replace(content.header, yhat_crc=content.header.yhat_crc ^ 1))
    with pytest.raises(DesyncError, match="engine 'auto' do not match .* basic-run verify"):
        codec.decode(container.write(changed))


def test_an_entropy_variant_that_is_not_there(codec: Codec, photo: Photo) -> None:
    content = container.read(codec.encode(photo(8, 8)))
    with pytest.raises(FormatError, match="entropy variant 9"):
        codec.decode(container.write(replace(content, header=replace(content.header, entropy_variant=9))))


def test_a_level_that_is_not_there(bundle_copy: Path, codec: Codec, photo: Photo) -> None:
    edit_manifest(bundle_copy, lambda m: m["levels"].pop())
    smaller = Codec(bundle_copy)
    assert file_info(smaller.encode(photo(8, 8))).level == 6
    with pytest.raises(FormatError, match="names level 7, which its model has not"):
        smaller.decode(codec.encode(photo(8, 8), level=7))


def test_a_wrong_golden_vector_stops_the_engine(bundle_copy: Path, photo: Photo) -> None:
    edit_manifest(bundle_copy, lambda m: m["entropy"][1]["golden"].update({"graph outputs sha256": "0" * 64}))
    codec = Codec(bundle_copy)
    with pytest.raises(EngineError, match="'auto' .* does not reproduce the golden vector"):
        codec.encode(photo(8, 8), level=7)
    codec.encode(photo(8, 8), level=0)
    assert [check.error is None for check in codec.verify()] == [True, False]


def test_truncated_files(codec: Codec, photo: Photo) -> None:
    data = codec.encode(photo(40, 40))
    for length in range(0, len(data), max(1, len(data) // 50)):
        with pytest.raises(TruncatedError):
            codec.decode(data[:length])


def test_damaged_latents_never_give_a_picture(codec: Codec, photo: Photo) -> None:
    """Damage that the chunk's checksum does not see: bytes changed before the container was written."""
    content = container.read(codec.encode(photo(60, 60), quality=80))
    rng = np.random.default_rng(3)
    for _ in range(200):
        stream = bytearray(content.data)
        stream[rng.integers(len(stream))] ^= 1 << rng.integers(8)
        with pytest.raises((FormatError, DesyncError)):
            codec.decode(container.write(replace(content, data=bytes(stream))))


@pytest.mark.parametrize("stream", [b"", b"\0", b"\xff" * 1000])
def test_bytes_that_are_no_stream(codec: Codec, photo: Photo, stream: bytes) -> None:
    content = container.read(codec.encode(photo(60, 60)))
    with pytest.raises(BasicError):
        codec.decode(container.write(replace(content, data=stream)))
