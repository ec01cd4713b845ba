"""Files that were made to take memory or time: one line says what is wrong, soon."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from c_commands import Command, failure, scene
from pictures import PICTURES, RGB, chunk, saved
from PIL import Image
from reference_model import Cursor

from basic_runtime.codec import Codec
from basic_runtime.imageio import read_picture

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("BASIC_CODEC_BUILD", ROOT / "build-codec")).resolve()
LONG = b"a" * (15 << 20)
HEAD = 33  # of a PNG, up to the first chunk after its header


@dataclass
class Run:
    done: subprocess.CompletedProcess[bytes]
    megabytes: int
    seconds: float


def run(name: str, *arguments: object, stdin: bytes = b"") -> Run:
    """A command, with the memory and the processor time that it took."""
    code = (
        "import resource, subprocess, sys\n"
        "status = subprocess.run(sys.argv[1:]).returncode\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_maxrss // 1024, used.ru_utime + used.ru_stime, file=sys.stderr)\n"
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", code, BUILD / name, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    *lines, used = done.stderr.splitlines(keepends=True)
    megabytes, seconds = used.split()
    done.stderr = b"".join(lines)
    return Run(done, int(megabytes), float(seconds))


def with_chunks(png: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    return png[:HEAD] + b"".join(chunk(kind, data) for kind, data in chunks) + png[HEAD:]


def xmp(text: bytes, packed: bool = False, method: int = 0) -> tuple[bytes, bytes]:
    body = zlib.compress(text) if packed else text
    return b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed, method]) + b"\0\0" + body


def test_packed_text_takes_no_memory(encoders: Path) -> None:
    packed = zlib.compress(LONG, 9)
    data = with_chunks(PICTURES["png-rgb"], [(b"zTXt", b"k%d\0\0" % number + packed) for number in range(80)])
    found = run("basic-encode", "--level", 0, "--threads", 1, encoders, "-", "-", stdin=data)
    assert (found.done.returncode, found.done.stderr) == (0, b"")
    assert found.done.stdout == Codec(threads=1).encode(RGB, level=0)
    assert found.megabytes < 600


@pytest.mark.parametrize("kind", ["iTXt", "iCCP"])
def test_of_many_packed_metadata_one_is_unpacked(encoders: Path, kind: str) -> None:
    packed = zlib.compress(LONG, 9)
    head = b"XML:com.adobe.xmp\0\1\0\0\0" if kind == "iTXt" else b"ICC Profile\0\0"
    data = with_chunks(PICTURES["png-rgb"], [(kind.encode(), head + packed)] * 500)
    found = run("basic-encode", "--level", 0, "--effort", 0, encoders, "-", "-", stdin=data)
    assert found.done.returncode == 0
    assert found.seconds < 6


def test_the_last_of_several_metadata_counts(encode: Command, encoders: Path) -> None:
    codec, good, other = Codec(threads=1), xmp(b"<x>1</x>"), xmp(b"<x>2</x>", packed=True)
    profiles = [(b"iCCP", b"p\0\0" + zlib.compress(name * 99)) for name in (b"one", b"two")]
    for chunks in (
        [good, other],
        [other, good],
        [good, xmp(b"<x>3</x>", packed=True, method=1)],
        [good, (b"iTXt", b"XML:com.adobe.xmp\0\0\0no end")],
        [good, (b"iTXt", b"Comment\0\0\0\0\0words")],
        profiles,
    ):
        data = with_chunks(PICTURES["png-rgb"], chunks)
        result = encode("--level", 0, encoders, "-", "-", stdin=data)
        assert (result.returncode, result.stderr) == (0, b"")
        found, expected = codec.decode_picture(result.stdout), read_picture(data)
        assert (found.icc, found.xmp) == (expected.icc, expected.xmp)
        assert found.icc or found.xmp


@pytest.mark.parametrize(
    "kind", [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0"), (b"bKGD", bytes(6)), (b"sBIT", b"\5\6\5")]
)
def test_other_chunks_change_no_pixel(encode: Command, encoders: Path, kind: tuple[bytes, bytes]) -> None:
    result = encode("--level", 0, encoders, "-", "-", stdin=with_chunks(PICTURES["png-rgb"], [kind]))
    assert (result.returncode, result.stdout) == (0, Codec(threads=1).encode(RGB, level=0))


def with_scans(jpeg: bytes, count: int) -> bytes:
    """A progressive JPEG with its last scan so many times more."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * (1 + count) + jpeg[-2:]


def test_scans_of_a_jpeg_are_counted(encode: Command, encoders: Path) -> None:
    jpeg = saved(RGB, "JPEG", progressive=True)
    assert encode("--level", 0, encoders, "-", "-", stdin=with_scans(jpeg, 50)).returncode == 0
    assert Image.open(io.BytesIO(with_scans(jpeg, 120))).convert("RGB").size == (53, 41)
    failure(encode("--level", 0, encoders, "-", "-", stdin=with_scans(jpeg, 120)), "more than 100 scans")


def test_headers_of_pam_end(encode: Command, encoders: Path) -> None:
    def pam(keys: int) -> bytes:
        return b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\n" + b"KEY 1\n" * keys + b"ENDHDR\n\0"

    assert encode("--level", 0, encoders, "-", "-", stdin=pam(100)).returncode == 0
    failure(encode("--level", 0, encoders, "-", "-", stdin=pam(20_000)), "no picture", "64 KiB")


def test_files_beyond_2_gib(encode: Command, decode: Command, encoders: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate((2 << 30) + 1)
    failure(decode("--info", huge), str(huge), "2 GiB")
    failure(decode(huge, huge, tmp_path / "a.png"), str(huge), "2 GiB")
    failure(encode(encoders, huge, tmp_path / "a.basic"), str(huge), "2 GiB")


def test_a_stream_of_something_else_is_not_read_to_its_end(small_model: Path) -> None:
    for arguments in (["--info", "-"], [small_model, "-", "-"]):
        with open("/dev/zero", "rb") as zero:
            result = subprocess.run([BUILD / "basic-decode", *arguments], stdin=zero, capture_output=True)
        failure(result, "standard input", "no .basic file")


def sealed(model: bytes) -> bytes:
    return model[:12] + struct.pack("<I", zlib.crc32(model[16:])) + model[16:]


@dataclass
class Places:
    """Where parts of a packed model begin."""

    layers: int  # their number
    records: list[bytes]  # of the layers
    values: list[int]  # of each layer's weights
    head: int
    h_s: int  # the list of its layers


def places(data: bytes) -> Places:
    cursor = Cursor(data)
    cursor.bytes(16)
    arrays = []
    for _ in range(cursor.number("I")):
        kind, size = cursor.numbers("BI")
        cursor.bytes(size * (1, 1, 2, 2, 4, 4, 2, 8)[kind])
        arrays.append(size)
    layers, records, values = cursor.position, [], []
    for _ in range(cursor.number("I")):
        start = cursor.position
        values.append(sum(arrays[term[-1]] for term in cursor.list(lambda: cursor.numbers("HHHBBBI4x"))))
        cursor.list(lambda: cursor.bytes(6))
        cursor.bytes(22)
        records.append(data[start : cursor.position])
    head = cursor.position
    cursor.text()
    cursor.bytes(4 + 14 + 20 + 2 + 3)  # to the first variant
    cursor.list(lambda: (cursor.text(), cursor.bytes(13)))
    return Places(layers, records, values, head, cursor.position)


def with_h_s(data: bytes, at: Places, numbers: list[int]) -> bytes:
    end = at.h_s + 2 + 4 * struct.unpack_from("<H", data, at.h_s)[0]
    return data[: at.h_s] + struct.pack(f"<H{len(numbers)}I", len(numbers), *numbers) + data[end:]


def refused(model: bytes, tmp_path: Path, *texts: str) -> None:
    path, file = tmp_path / "hostile.basicmodel", tmp_path / "a.basic"
    path.write_bytes(sealed(model))
    file.write_bytes(Codec(threads=1).encode(scene(40, 40), level=0))
    found = run("basic-decode", "--threads", 1, path, file, "-")
    failure(found.done, str(path), "pack it again", *texts)
    assert found.megabytes < 600


def test_networks_name_each_layer_once(small_model: Path, tmp_path: Path) -> None:
    data = small_model.read_bytes()
    at = places(data)
    most = max(range(len(at.values)), key=at.values.__getitem__)
    refused(with_h_s(data, at, [most] * 20_000), tmp_path, "same layer twice")


def test_weights_of_a_network_are_counted(small_model: Path, tmp_path: Path) -> None:
    """Layers with numbers of their own that are all of the same arrays."""
    data = small_model.read_bytes()
    at = places(data)
    most = max(range(len(at.values)), key=at.values.__getitem__)
    count, more = len(at.records), 20_000
    forged = with_h_s(data, at, list(range(count, count + more)))
    forged = (
        forged[: at.layers] + struct.pack("<I", count + more) + forged[at.layers + 4 : at.head]
        + at.records[most] * more + forged[at.head :]
    )  # fmt: skip
    refused(forged, tmp_path, "too many weights")


@pytest.mark.parametrize("stride", [257 * 8, 1040, 512])
def test_strides_are_bounded(small_model: Path, tmp_path: Path, stride: int) -> None:
    """Tiles of a picture are whole multiples of them."""
    data = bytearray(small_model.read_bytes())
    at = places(bytes(data)).head
    place = at + 1 + data[at] + 4 + 9 + 2
    assert struct.unpack_from("<H", data, place)[0] in (64, 128)
    struct.pack_into("<H", data, place, stride)
    refused(bytes(data), tmp_path, "bad strides")


@pytest.mark.parametrize("name", [b"lite\n11", b"", b"l" * 16, b"lite 11"])
def test_names_of_models_are_those_of_files(small_model: Path, tmp_path: Path, name: bytes) -> None:
    data = small_model.read_bytes()
    at = places(data).head
    refused(data[:at] + bytes([len(name)]) + name + data[at + 1 + data[at] :], tmp_path, "its name")


def test_models_have_no_more_levels_than_files(small_model: Path, tmp_path: Path) -> None:
    data, nothing = small_model.read_bytes(), 0xFFFFFFFF
    levels = struct.pack("<H8I", 8, 0, *[nothing] * 7)
    assert data.count(levels) >= 1
    refused(data.replace(levels, struct.pack("<H9I", 9, 0, *[nothing] * 8), 1), tmp_path, "more levels")
