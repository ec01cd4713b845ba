"""The `.basic` container: round trips, its normative layout, and every kind of damage."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from basic_runtime.container import SIGNATURE, Chunk, Container, Header, parse, peek, read, write
from basic_runtime.errors import BasicError, FormatError, LimitError, TruncatedError
from basic_runtime.limits import Limits
from basic_runtime.post_filter import shape_of

HEADER = Header("lite-1", "0123abcd", 5, 4, 7, 1, 40, 5, 77)
MODEL_NAMES = st.text("abcXYZ019._-", min_size=1, max_size=15)
METADATA = st.none() | st.binary(min_size=1, max_size=40) | st.just(b"sRGB" * 300)


def make_chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk built by hand (payloads below 128 bytes)."""
    body = kind + bytes([len(payload)]) + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def header_bytes(header: Header = HEADER) -> bytes:
    empty_code = make_chunk(b"CODE", b"")
    whole = write(Container(header, b""))
    assert whole.endswith(empty_code)
    return whole[: -len(empty_code)]


def with_chunks(*chunks: bytes, header: Header = HEADER) -> bytes:
    return header_bytes(header) + b"".join(chunks)


def assert_same(a: Container, b: Container) -> None:
    assert (a.header, a.data, a.icc, a.exif, a.xmp) == (b.header, b.data, b.icc, b.exif, b.xmp)
    for one, other in ((a.alpha, b.alpha), (a.post_filter, b.post_filter)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one, other)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    return Header(
        model_name=draw(MODEL_NAMES),
        model_id=draw(st.binary(min_size=4, max_size=4)).hex(),
        width=draw(st.integers(1, 40) | st.integers(1, 65_535)),
        height=draw(st.integers(1, 40) | st.integers(1, 900)),
        gray=draw(st.booleans()),
        level=draw(st.integers(0, 7)),
        entropy_variant=draw(st.integers(0, 255)),
        quality_step=draw(st.integers(0, 63)),
        decode_level=draw(st.integers(0, 7)),
        yhat_crc=draw(st.integers(0, 2**32 - 1)),
    )


@st.composite
def alpha_planes(draw: st.DrawFn, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ys, xs = np.mgrid[:height, :width]
    kind = draw(st.sampled_from(["constant", "noise", "ramp", "columns", "mask", "mixed"]))
    planes = {
        "constant": np.full((height, width), draw(st.integers(0, 255))),
        "noise": rng.integers(0, 256, (height, width)),
        "ramp": 3 * xs + 7 * ys,
        "columns": rng.integers(0, 256, width) + 0 * ys,
        "mask": 255 * (xs > ys),
        "mixed": np.where(ys % 3, 5 * xs, rng.integers(0, 256, (height, width))),
    }
    return planes[kind].astype(np.uint8)


@st.composite
def containers(draw: st.DrawFn) -> Container:
    header = draw(headers())
    alpha = None
    if header.width <= 40 and header.height <= 40:
        alpha = draw(st.none() | alpha_planes(header.height, header.width))
    metadata = [draw(METADATA) for _ in range(3)]
    shape = shape_of(header.gray)
    weights = draw(st.none() | st_numpy.arrays(np.int8, shape, elements=st.integers(-128, 127)))
    return Container(header, draw(st.binary(max_size=300)), alpha, *metadata, weights)


@given(containers())
def test_round_trip(container: Container) -> None:
    data = write(container)
    assert_same(read(data), container)
    assert peek(data) == container.header
    assert peek(data[:60]) == container.header
    assert write(read(data)) == data


@given(containers(), st.data())
def test_every_truncation_is_a_truncated_error(container: Container, data: st.DataObject) -> None:
    whole = write(container)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(TruncatedError, match="cut off|empty"):
        read(whole[:cut])


@given(containers(), st.data())
def test_any_flipped_byte_is_found(container: Container, data: st.DataObject) -> None:
    damaged = bytearray(write(container))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        read(damaged)


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_refused(noise: bytes, signed: bool) -> None:
    with pytest.raises(FormatError):
        read((SIGNATURE if signed else b"") + noise)


@given(st.binary(max_size=120), st.sampled_from([b"ALPH", b"iccp", b"exif", b"xmpd"]))
def test_random_payloads_with_good_checksums(payload: bytes, kind: bytes) -> None:
    data = with_chunks(make_chunk(kind, payload), make_chunk(b"CODE", b"abc"))
    try:
        assert read(data).data == b"abc"
    except (FormatError, LimitError) as error:
        assert "\n" not in str(error)


def test_overhead_of_a_plain_photo_is_at_most_50_bytes() -> None:
    header = Header("lite-1", "0123abcd", 768, 512, 7, 0, 40, 7, 12345)
    assert len(write(Container(header, bytes(7_000)))) - 7_000 == 45


def test_layout_is_the_one_of_docs_format() -> None:
    body = (
        bytes([1, 6]) + b"lite-1" + bytes.fromhex("0123abcd") + bytes([5, 4])  # name, id, width, height
        + bytes([7 << 1 | 5 << 4, 1, 40]) + (77).to_bytes(4, "little")  # mode, entropy, quality, checksum
    )  # fmt: skip
    expected = b"\x89BSC\r\n\x1a\n" + body + zlib.crc32(body).to_bytes(4, "little")
    expected += make_chunk(b"iccp", b"\0abc") + make_chunk(b"ALPH", b"\0\x80") + make_chunk(b"CODE", b"xyz")
    container = Container(HEADER, b"xyz", alpha=np.full((4, 5), 128, np.uint8), icc=b"abc")
    assert write(container) == expected


def test_metadata_is_compressed_when_that_is_smaller() -> None:
    icc = b"abcd" * 1_000
    data = write(Container(HEADER, b"", icc=icc, exif=b"II*\0"))
    sizes = {chunk.type: len(chunk.payload) for chunk in parse(data)[1]}
    assert sizes["iccp"] < 60 and sizes["exif"] == 5
    assert read(data).icc == icc


def test_empty_metadata_is_not_stored() -> None:
    assert [chunk.type for chunk in parse(write(Container(HEADER, b"", icc=b"")))[1]] == ["CODE"]


def test_smooth_alpha_is_smaller_than_plain_zlib() -> None:
    ys, xs = np.mgrid[:200, :300]
    alpha = np.hypot(xs - 30, ys - 250).astype(np.uint8)
    header = Header("m", "00000000", 300, 200, 0, 0, 0, 0, 0)
    data = write(Container(header, b"", alpha=alpha))
    assert len(data) * 1.5 < len(zlib.compress(alpha.tobytes(), 9))
    np.testing.assert_array_equal(read(data).alpha, alpha)


def test_unknown_ancillary_chunk_is_skipped() -> None:
    data = with_chunks(make_chunk(b"newx", b"anything"), make_chunk(b"CODE", b"abc"))
    assert read(data).data == b"abc"
    chunks = parse(data)[1]
    assert chunks[0] == Chunk("newx", memoryview(b"anything"), 17) and not chunks[0].critical


# --- bad input, a test each ------------------------------------------------------------------------------


def test_unknown_critical_chunk_is_refused_by_name() -> None:
    with pytest.raises(FormatError, match="unknown feature NEWX: install a newer"):
        read(with_chunks(make_chunk(b"NEWX", b""), make_chunk(b"CODE", b"abc")))


def test_duplicate_chunk_is_refused() -> None:
    for kind in (b"iccp", b"newx"):
        with pytest.raises(FormatError, match=f"chunk {kind.decode()} is there twice"):
            read(with_chunks(make_chunk(kind, b"\0a"), make_chunk(kind, b"\0b"), make_chunk(b"CODE", b"")))


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(FormatError, match="3 bytes follow"):
        read(write(Container(HEADER, b"abc")) + b"zip")
    with pytest.raises(FormatError, match="17 bytes follow"):
        read(with_chunks(make_chunk(b"CODE", b"abc"), make_chunk(b"newx", b"anything")))


def test_missing_coded_data_is_truncation() -> None:
    with pytest.raises(TruncatedError, match="before its coded data"):
        read(with_chunks(make_chunk(b"iccp", b"\0abc")))


def test_truncated_file_names_what_is_missing() -> None:
    whole = write(Container(HEADER, b"abcdef"))
    with pytest.raises(TruncatedError, match="cut off in chunk CODE: 6 bytes should follow and 2 do"):
        read(whole[:-8])
    with pytest.raises(TruncatedError, match="cut off in the header"):
        read(whole[:20])


def test_other_files_are_refused() -> None:
    for data in (b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff\xd8\xff\xe0" + bytes(50), b"hello world, a text"):
        with pytest.raises(FormatError, match=r"no \.basic file"):
            read(data)


def test_empty_file_is_refused() -> None:
    with pytest.raises(TruncatedError, match="empty"):
        read(b"")


def test_text_mode_damage_is_named() -> None:
    whole = write(Container(HEADER, b"\r\n"))
    damages = [
        whole.replace(b"\r\n", b"\n"),
        whole.replace(b"\n", b"\r\n"),
        bytes(byte & 0x7F for byte in whole),
        whole.decode("utf-8", "replace").encode(),
    ]
    for damaged in damages:
        with pytest.raises(FormatError, match="text mode"):
            read(damaged)


def test_unknown_version_is_refused() -> None:
    data = bytearray(write(Container(HEADER, b"")))
    data[8] = 2
    with pytest.raises(FormatError, match="version 2 of the format.*install a newer"):
        read(data)


def resealed(position: int, value: int) -> bytes:
    """A file with one byte of its header changed and the header's checksum made good."""
    head = bytearray(header_bytes())
    head[position] = value
    head[-4:] = zlib.crc32(head[8:-4]).to_bytes(4, "little")
    return bytes(head) + make_chunk(b"CODE", b"")


def test_header_values_out_of_range_are_refused() -> None:
    assert read(resealed(22, 40)).header.quality_step == HEADER.quality_step  # nothing changed there
    for position, value, cause in [
        (10, ord("\n"), "name"),
        (20, 0, "no pixels"),
        (22, 0x80, "reserved bit"),
        (24, 64, "quality step"),
    ]:
        with pytest.raises(FormatError, match=cause):
            read(resealed(position, value))


def test_lengths_must_have_their_shortest_form() -> None:
    body = b"CODE" + b"\x83\x00" + b"abc"
    with pytest.raises(FormatError, match="bad length field"):
        read(header_bytes() + body + zlib.crc32(body).to_bytes(4, "little"))
    with pytest.raises(FormatError, match="bad length field"):
        read(header_bytes() + b"CODE\xff\xff\xff\xff\x7f")


def test_picture_larger_than_the_limits_is_refused_before_anything_is_allocated() -> None:
    bomb = Header("m", "00000000", 65_000, 16_000, 0, 0, 0, 0, 0)
    data = with_chunks(make_chunk(b"ALPH", b"\0\xff"), make_chunk(b"CODE", b""), header=bomb_safe(bomb))
    tracemalloc.start()
    with pytest.raises(LimitError, match="65000x16000 pixels.*--max-pixels"):
        read(patch_size(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def bomb_safe(header: Header) -> Header:
    """A header that `write` accepts, to be patched: 20000 x 3000 is within the limits."""
    return Header(header.model_name, header.model_id, 20_000, 3_000, 0, 0, 0, 0, 0)


def patch_size(data: bytes) -> bytes:
    """Writes 65000 x 16000 in place of 20000 x 3000 (3 and 2 bytes each) and seals the header again."""
    old, new = bytes([0xA0, 0x9C, 0x01, 0xB8, 0x17]), bytes([0xE8, 0xFB, 0x03, 0x80, 0x7D])
    patched = bytearray(data.replace(old, new, 1))
    end = patched.index(new) + len(new) + 7
    patched[end : end + 4] = zlib.crc32(patched[8:end]).to_bytes(4, "little")
    return bytes(patched)


def test_limits_can_be_lowered_and_raised() -> None:
    wide = write(Container(Header("m", "00000000", 65_535, 1, 0, 0, 0, 0, 0), b""))
    assert read(wide).header.width == 65_535
    with pytest.raises(LimitError, match="max_side"):
        read(wide, Limits(max_side=65_534))
    with pytest.raises(LimitError, match="max_pixels"):
        read(wide, Limits(max_pixels=65_534))
    with pytest.raises(LimitError, match="max_file_bytes"):
        read(wide, Limits(max_file_bytes=10))
    wider = write(Container(Header("m", "00000000", 70_000, 1, 0, 0, 0, 0, 0), b""), Limits(max_side=10**5))
    assert read(wider, Limits(max_side=10**5)).header.width == 70_000


def test_chunk_limits() -> None:
    data = write(Container(HEADER, bytes(100), icc=b"icc"))
    with pytest.raises(LimitError, match="max_chunk_bytes"):
        read(data, Limits(max_chunk_bytes=99))
    with pytest.raises(LimitError, match="max_chunks"):
        read(data, Limits(max_chunks=1))
    with pytest.raises(LimitError, match="max_metadata_bytes"):
        read(data, Limits(max_metadata_bytes=2))


@pytest.mark.parametrize(
    ("name", "fitting"), [("max_chunk_bytes", 100), ("max_chunks", 3), ("max_metadata_bytes", 3), ("max_file_bytes", 0)]
)
def test_writers_keep_the_limits_of_readers(name: str, fitting: int) -> None:
    content = Container(HEADER, bytes(100), icc=b"icc", alpha=np.zeros((4, 5), np.uint8))
    data = write(content)
    fitting = fitting or len(data)
    assert write(content, Limits(**{name: fitting})) == data and read(data, Limits(**{name: fitting}))
    for attempt in (lambda limits: write(content, limits), lambda limits: read(data, limits)):
        with pytest.raises(LimitError, match=name):
            attempt(Limits(**{name: fitting - 1}))


def zlib_bomb(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


@pytest.mark.parametrize("kind", ["iccp", "ALPH"])
def test_decompression_bomb_is_refused_and_never_inflated(kind: str) -> None:
    bomb = zlib_bomb(50_000_000)
    header = b"\x01" if kind == "ALPH" else b"\x01\x64"  # iccp claims 100 bytes; alpha must have 4 * 6
    payload = header + bomb
    length = bytes([len(payload) & 0x7F | 0x80, len(payload) >> 7 & 0x7F | 0x80, len(payload) >> 14])
    body = kind.encode() + length + payload
    data = with_chunks(body + zlib.crc32(body).to_bytes(4, "little"), make_chunk(b"CODE", b""))
    tracemalloc.start()
    with pytest.raises(FormatError, match="does not hold the"):
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_metadata_claiming_more_than_the_limit_is_refused() -> None:
    claim = b"\x01" + bytes([0xFF, 0xFF, 0xFF, 0xFF, 0x0F]) + zlib.compress(b"abc")
    with pytest.raises(LimitError, match="max_metadata_bytes"):
        read(with_chunks(make_chunk(b"iccp", claim), make_chunk(b"CODE", b"")))


@pytest.mark.parametrize(
    "payload",
    [b"\x02abc", b"\x00", b"", b"\x01\x00" + zlib.compress(b""), b"\x01\x03" + zlib.compress(b"abc") + b"x"],
    ids=["unknown method", "empty", "no method", "zlib of nothing", "bytes after zlib"],
)
def test_damaged_metadata_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError):
        read(with_chunks(make_chunk(b"iccp", payload), make_chunk(b"CODE", b"")))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\x00\x01\x02",
        b"\x02\x00",
        b"\x01",
        b"\x01" + zlib.compress(bytes(23)),
        b"\x01" + zlib.compress(bytes(25)),
        b"\x01" + zlib.compress(b"\x04" + bytes(23)),
        b"\x01" + zlib.compress(bytes(24))[:-1],
    ],
    ids=["empty", "short", "long", "method", "no stream", "few rows", "many rows", "filter", "cut stream"],
)
def test_damaged_alpha_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError):
        read(with_chunks(make_chunk(b"ALPH", payload), make_chunk(b"CODE", b"")))


def test_writer_refuses_what_cannot_be_read_back() -> None:
    for wrong in [
        {"model_name": "a" * 16},
        {"model_id": "xyz"},
        {"level": 8},
        {"width": 0},
        {"quality_step": 64},
        {"entropy_variant": 256},
    ]:
        with pytest.raises(ValueError):
            replace(HEADER, **wrong)
    with pytest.raises(ValueError, match="alpha"):
        write(Container(HEADER, b"", alpha=np.zeros((5, 4), np.uint8)))
    with pytest.raises(LimitError):
        write(Container(HEADER, b"", icc=bytes(17 << 20)))


def test_heavily_damaged_files_raise_only_basic_errors() -> None:
    rng = random.Random(5)
    alpha = np.arange(20, dtype=np.uint8).reshape(4, 5)
    whole = write(Container(HEADER, bytes(40), alpha, b"icc" * 30, b"exif"))
    for _ in range(2_000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 4))
        try:
            assert_same(read(damaged), read(whole))
        except BasicError as error:
            assert "\n" not in str(error) and len(str(error)) < 200
