"""`basic-run`: the installed command for the main paths, click's runner for the rest."""

from __future__ import annotations

import io
import json
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from basic_runtime import container, machine
from basic_runtime.cli import main
from basic_runtime.cli.batch import share_cores
from basic_runtime.codec import Codec
from basic_runtime.engines import Backend, available_backends
from basic_runtime.exif import ORIENTATION
from basic_runtime.limits import Limits
from basic_runtime.picture import EXIF_PREFIX

from .commands import fails
from .test_bundle import edit_manifest

Photo = Callable[[int, int], np.ndarray]
COMMAND = [str(Path(sys.executable).with_name("basic-run"))]


@pytest.fixture(autouse=True)
def _default_bundle(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASIC_BUNDLE", str(tiny_path))


@pytest.fixture
def folder(tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty-but-for photo.png folder, which is the current one."""
    Image.fromarray(photo(40, 60)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, input: bytes | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=input, prog_name="basic-run")


def command(*arguments: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], input=input, capture_output=True, timeout=120)


# --- the installed command -----------------------------------------------------------------------------


def test_there_and_back_with_the_installed_command(folder: Path) -> None:
    done = command("encode", "photo.png", "-q", "80")
    assert done.returncode == 0 and b"photo.png -> photo.basic  60x40" in done.stdout and not done.stderr
    done = command("decode", "photo.basic", "-o", "back.jpg", "--level", "0")
    assert done.returncode == 0 and Image.open("back.jpg").format == "JPEG"
    assert Image.open("back.jpg").size == (60, 40)
    assert sorted(os.listdir()) == ["back.jpg", "photo.basic", "photo.png"]


def test_pipes_with_the_installed_command(folder: Path) -> None:
    packed = command("encode", "-", input=Path("photo.png").read_bytes())
    assert packed.returncode == 0 and packed.stdout.startswith(container.SIGNATURE)
    assert b"standard input -> standard output" in packed.stderr
    back = command("decode", "-", input=packed.stdout)
    assert back.returncode == 0 and Image.open(io.BytesIO(back.stdout)).size == (60, 40)


def test_an_error_of_the_installed_command_is_one_line(folder: Path) -> None:
    done = command("decode", "photo.png", "-o", "x.png")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(b"basic-run: error: photo.png: this is no .basic file")
    assert done.stderr.count(b"\n") == 1


def test_an_option_that_comes_before_a_command_fails_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASIC_DOTS_KERNEL", "sse9")
    done = command("--version")
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"basic-run: error: no kernel 'sse9' here: BASIC_DOTS_KERNEL may be ")


def test_a_damaged_library_is_not_available(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package is there, and does not load."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("basic_runtime.engines.onnxruntime.find_spec", lambda name: name)
    assert "onnxruntime" not in available_backends()
    fails(run("encode", "photo.png", "--engine", "onnxruntime"), "engine 'onnxruntime' does not load here")


def test_help_is_quick() -> None:
    """Under 0.3 s on an idle machine: processor time, since others may be at work here."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert command("--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, basic_runtime, basic_runtime.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "onnx", "onnxruntime", "openvino", "numpy", "rich", "PIL"}
    assert not heavy & set(done.stdout.split())


def test_a_progress_bar_on_a_terminal_only(folder: Path) -> None:
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        Path(name).write_bytes(Path("photo.png").read_bytes())
    ours, theirs = pty.openpty()
    done = subprocess.run([*COMMAND, "encode", *names], stdout=subprocess.PIPE, stderr=theirs, timeout=120, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16)
    os.close(ours)
    assert b"3/3" in shown and b"3 encoded" in shown
    assert [line.split()[0] for line in done.stdout.splitlines()] == [name.encode() for name in names]


def test_a_long_single_file_shows_its_time_on_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed command, kept from its input for longer than its patience."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    source = Path("photo.png").read_bytes()
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*COMMAND, "encode", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    assert running.stdin is not None
    shown = os.read(ours, 1 << 12)  # comes when the patience is over
    packed, _ = running.communicate(source, timeout=120)
    assert b"standard input" in shown + os.read(ours, 1 << 16)
    os.close(ours)
    assert running.returncode == 0 and packed.startswith(container.SIGNATURE)


# --- encode and decode ---------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["bmp", "gif"])
def test_pictures_of_formats_that_are_only_read(folder: Path, extension: str) -> None:
    Image.open("photo.png").save(f"in.{extension}")
    assert run("encode", f"in.{extension}").exit_code == 0
    fails(run("decode", "in.basic", "-o", f"out.{extension}"), "names no picture format that is written")


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif", "ppm"])
def test_pictures_of_all_formats(folder: Path, extension: str) -> None:
    Image.open("photo.png").save(f"in.{extension}")
    assert run("encode", f"in.{extension}", "-o", "x.basic").exit_code == 0
    assert run("decode", "x.basic", "-o", f"out.{extension}").exit_code == 0
    assert Image.open(f"out.{extension}").size == (60, 40)


def test_many_inputs_go_to_a_folder(folder: Path, photo: Photo) -> None:
    for index in range(3):
        Image.fromarray(photo(20, 20 + index)).save(f"{index}.png")
    done = run("encode", "0.png", "1.png", "2.png", "--out-dir", "packed")
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 3
    assert done.stderr.startswith("3 encoded: ")
    done = run("decode", *(f"packed/{i}.basic" for i in range(3)), "--out-dir", "back", "--format", "webp")
    assert done.exit_code == 0 and sorted(os.listdir("back")) == ["0.webp", "1.webp", "2.webp"]


def test_a_bad_file_does_not_stop_the_rest(folder: Path) -> None:
    Path("bad.png").write_bytes(b"nonsense")
    Image.open("photo.png").save("last.png")
    done = run("encode", "photo.png", "bad.png", "missing.png", "last.png")
    assert done.exit_code == 1
    assert Path("photo.basic").exists() and Path("last.basic").exists()
    lines = done.stderr.splitlines()
    assert lines[0].startswith("basic-run: error: bad.png: not a picture")
    assert lines[1].startswith("basic-run: error: missing.png: cannot be read")
    assert lines[2].startswith("2 encoded: ") and lines[2].endswith("; 2 failed")


def test_json_tells_results_and_errors(folder: Path) -> None:
    done = run("encode", "photo.png", "missing.png", "--json")
    good, bad = json.loads(done.stdout)
    assert done.exit_code == 1 and "missing.png" in bad["error"]
    assert (good["width"], good["height"]) == (60, 40)
    assert good["bytes"] == Path("photo.basic").stat().st_size


def test_results_tell_the_quality_and_the_level_of_the_file(folder: Path) -> None:
    """-q 2 and -q 3 are the same step, which info calls 3."""
    [made] = json.loads(run("encode", "photo.png", "-q", "2", "--level", "5", "--json").stdout)
    [found] = json.loads(run("info", "photo.basic", "--json").stdout)
    assert (made["quality"], made["level"]) == (found["quality"], found["level"]) == (3, 5)
    for options, level in (((), 5), (("--level", "1"), 1)):
        [back] = json.loads(run("decode", "photo.basic", "-o", f"{level}.png", *options, "--json").stdout)
        assert back["level"] == level


class Measured:
    def within(self, *_: object) -> machine.LevelTime:
        return machine.LevelTime(4, "encode", 0, (), ())


def test_text_tells_what_was_chosen(folder: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("encode", "photo.png", "--target-size", "2000", "--overwrite")
    [found] = json.loads(run("info", "photo.basic", "--json").stdout)
    assert f"  quality {found['quality']}\n" in done.stdout and "level" not in done.stdout
    assert "quality" not in run("encode", "photo.png", "--overwrite").stdout

    monkeypatch.setattr(machine, "load", lambda *_: Measured())
    budget = ("encode", "photo.png", "--budget-ms", "9", "--overwrite")
    assert run(*budget).stdout.endswith("  level 4  effort 0\n")
    assert run(*budget, "--effort", "0").stdout.endswith("  level 4\n")
    assert run("decode", "photo.basic", "-o", "x.png", "--level", "auto").stdout.endswith("  level 4\n")


@pytest.mark.parametrize("option", [("--level", "auto"), ("--budget-ms", "1000")], ids=["auto", "budget"])
def test_levels_by_time_use_the_profile_of_one_file_at_a_time(
    option: tuple[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is that of the engine's own threads, also where files side by side would get one each."""
    asked: list[int | None] = []

    def load(bundle: object, backend: Backend) -> Measured:
        asked.append(backend.threads)
        return Measured()

    monkeypatch.setattr(machine, "load", load)
    monkeypatch.setattr("basic_runtime.cli.batch.default_threads", lambda: 2)
    Image.open("photo.png").save("other.png")
    assert run("encode", "photo.png", "other.png", *option).exit_code == 0
    assert run("decode", "photo.basic", "other.basic", "--out-dir", "back", *option).exit_code == 0
    assert asked == [None, None]


def test_existing_outputs_are_kept_unless_asked(folder: Path) -> None:
    Path("photo.basic").write_bytes(b"mine")
    fails(run("encode", "photo.png"), "photo.basic: exists already")
    assert Path("photo.basic").read_bytes() == b"mine"
    assert run("encode", "photo.png", "--overwrite").exit_code == 0
    assert Path("photo.basic").read_bytes() != b"mine"


def test_an_output_that_is_the_input(folder: Path) -> None:
    Path("photo.png").rename("photo")
    fails(run("encode", "photo", "-o", "./photo", "--overwrite"), "is the input itself")


@pytest.mark.parametrize("name", ["photo.jpg", "deep/photo.JFIF", "photo.png", "photo.avif"])
def test_a_packed_file_gets_no_name_of_a_picture(folder: Path, name: str) -> None:
    done = run("encode", "photo.png", "-o", name, "--overwrite")
    ours = Path(name).with_suffix(".basic")
    said = f"Error: -o {name}: encode writes .basic files, and no pictures: name it {ours}"
    assert done.exit_code == 2 and done.stderr.splitlines()[-1] == said
    assert os.listdir() == ["photo.png"]


@pytest.mark.parametrize("name", ["photo", "photo.bin", "photo.BASIC", "photo.jpg.basic"])
def test_a_packed_file_gets_any_other_name(folder: Path, name: str) -> None:
    assert run("encode", "photo.png", "-o", name).exit_code == 0
    assert Path(name).read_bytes().startswith(container.SIGNATURE)


def test_jpeg_by_either_name(folder: Path) -> None:
    assert run("encode", "photo.png").exit_code == 0
    for kind in ("jpg", "jpeg"):
        assert run("decode", "photo.basic", "--format", kind).exit_code == 0
        assert Image.open(f"photo.{kind}").format == "JPEG"
        assert run("decode", "photo.basic", "-o", f"x-{kind}.jpe", "--format", kind).exit_code == 0


def test_strip_leaves_metadata_out_and_turns_the_picture(folder: Path, photo: Photo) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(photo(40, 60)).save("turned.jpg", exif=exif)
    assert run("encode", "turned.jpg", "-o", "kept.basic").exit_code == 0
    assert run("encode", "turned.jpg", "-o", "stripped.basic", "--strip").exit_code == 0
    kept, stripped = (container.read(Path(f"{n}.basic").read_bytes()) for n in ("kept", "stripped"))
    assert kept.exif == exif.tobytes().removeprefix(EXIF_PREFIX)
    assert (kept.header.width, kept.header.height) == (60, 40)
    assert stripped.exif is None and (stripped.header.width, stripped.header.height) == (40, 60)


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode",),
        ("encode", "a.png", "-q", "0"),
        ("encode", "a.png", "--level", "8"),
        ("encode", "a.png", "b.png", "-o", "c.basic"),
        ("encode", "a.png", "-o", "c.basic", "--out-dir", "d"),
        ("encode", "-", "--out-dir", "d"),
        ("encode", "-", "-"),
        ("encode", "a.png", "-o", "c.basic", "--keep-extension"),
        ("encode", "a.png", "--effort", "2", "--budget-ms", "9"),
        ("encode", "a.png", "--effort", "2", "--level", "auto"),
        ("encode", "-", "--json"),
        ("encode", "a.png", "--overwrite", "--skip-existing"),
        ("decode", "a.basic", "--format", "gif"),
        ("decode", "a.basic", "-o", "b.jpg", "--format", "png"),
        ("decode", "a.basic", "-o", "b.png", "--format", "jpg"),
        ("verify", "-", "-"),
        ("verify", "--jobs", "2"),
        ("verify", "--precision", "int16"),
        ("verify", "--max-pixels", "9"),
        ("info", "-", "-"),
        ("profile", "--size", "0x3"),
        ("profile", "--levels", "9"),
        ("profile", "--levels", "3-1"),
        ("evaluate", ".", "--levels", "0,3-1"),
        ("paint",),
    ],
)
def test_wrong_usage_exits_with_2(folder: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2 and "Traceback" not in done.output


# --- bad inputs ----------------------------------------------------------------------------------------


@pytest.fixture
def packed(folder: Path) -> Path:
    """packed.basic, encoded from photo.png."""
    assert run("encode", "photo.png", "-o", "packed.basic").exit_code == 0
    return folder / "packed.basic"


def test_error_wrong_bundle(packed: Path, other_path: Path) -> None:
    fails(run("decode", "packed.basic", "--bundle", str(other_path)), "packed.basic: ", "tiny-1", "tiny-2")


def test_error_missing_bundle(packed: Path) -> None:
    fails(run("decode", "packed.basic", "--bundle", "nowhere"), "nowhere: no such bundle folder")


def test_error_level_that_the_bundle_lacks(packed: Path, bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m["levels"].pop())
    bundle = ("--bundle", str(bundle_copy))
    fails(run("encode", "photo.png", "--level", "7", *bundle), "has levels 0 to 6, not 7")
    fails(run("decode", "packed.basic", "--level", "7", *bundle), "has levels 0 to 6, not 7")
    fails(run("profile", "--levels", "7", *bundle), "has levels 0 to 6, not 7")


def test_error_engine_that_fails_its_golden_vector(packed: Path, bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m["entropy"][1]["golden"].update({"graph outputs sha256": "0" * 64}))
    fails(run("decode", "packed.basic", "--bundle", str(bundle_copy)), "'auto'", "golden vector")


def test_error_precision_that_the_engine_has_not(packed: Path) -> None:
    done = run("decode", "packed.basic", "--engine", "onnxruntime", "--precision", "bf16")
    fails(done, "engine 'onnxruntime' computes in float32, not in bf16: take auto")


def test_error_engine_that_is_not_there(packed: Path) -> None:
    fails(run("decode", "packed.basic", "--engine", "abacus"), "no engine is called 'abacus'")


def test_error_checksum_of_latents(packed: Path) -> None:
    content = container.read(packed.read_bytes())
    header = replace(content.header, yhat_crc=content.header.yhat_crc ^ 1)
    packed.write_bytes(container.write(replace(content, header=header)))
    fails(run("decode", "packed.basic"), "packed.basic: ", "do not match the file's checksum")


def test_error_truncated_file(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes()[:-7])
    fails(run("decode", "packed.basic"), "packed.basic: the file is cut off")
    fails(run("info", "packed.basic"), "packed.basic: the file is cut off")


def test_error_damaged_file(packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[-20] ^= 4
    packed.write_bytes(data)
    fails(run("decode", "packed.basic"), "packed.basic: chunk CODE is damaged")


def test_error_empty_file(folder: Path) -> None:
    Path("empty.basic").touch()
    fails(run("decode", "empty.basic"), "empty.basic: the file is empty")


def test_error_decompression_bomb(packed: Path) -> None:
    fails(run("decode", "packed.basic", "--max-pixels", "2399"), "packed.basic: ", "2399")
    fails(run("encode", "photo.png", "-o", "x.basic", "--max-pixels", "2399"), "photo.png: ", "2399")
    assert run("decode", "packed.basic", "--max-pixels", "2400", "-o", "y.png").exit_code == 0


def test_note_on_cmyk(folder: Path) -> None:
    Image.new("CMYK", (20, 10), (0, 50, 100, 0)).save("ink.jpg")
    done = run("encode", "ink.jpg")
    assert done.exit_code == 0 and done.stderr.startswith("basic-run: note: ink.jpg: CMYK was converted")


def test_a_result_that_is_larger_than_its_source_is_noted(folder: Path) -> None:
    Image.new("RGB", (200, 100), "white").save(folder / "blank.png")
    Image.effect_noise((200, 100), 90).convert("RGB").save(folder / "noise.png")
    done = run("encode", "blank.png", "noise.png", "--json", "-q", "1")
    blank, noise = json.loads(done.stdout)
    source = (folder / "blank.png").stat().st_size
    assert blank["notices"] == [
        f"the result has {blank['bytes']:,} bytes, its source {source:,}: lower --quality, or keep a drawing as it is"
    ]
    assert done.exit_code == 0 and f"basic-run: note: blank.png: {blank['notices'][0]}" in done.stderr
    assert noise["notices"] == []


def test_note_on_16_bits(folder: Path) -> None:
    Image.fromarray(np.full((10, 20), 40_000, np.uint16)).save("deep.png")
    done = run("encode", "deep.png")
    assert done.exit_code == 0 and "16 bits per sample were reduced to 8" in done.stderr


def test_error_unreadable_paths(folder: Path) -> None:
    Path("dir").mkdir()
    fails(run("encode", "missing.png"), "missing.png: cannot be read (no such file or directory)")
    fails(run("encode", "dir", "-o", "x.basic"), "dir: is a folder, and -o names one file: use --out-dir")
    fails(run("decode", "missing.basic"), "missing.basic: cannot be read")
    fails(run("info", "missing.basic"), "missing.basic: cannot be read")


def test_error_outputs_that_cannot_be_written(packed: Path) -> None:
    fails(run("decode", "packed.basic", "-o", "no/where.png"), "no folder no")
    fails(run("decode", "packed.basic", "-o", "x.gif"), "x.gif: the extension .gif names no picture format")
    fails(run("decode", "packed.basic", "--out-dir", "photo.png"), "photo.png: cannot be made a folder")


def test_error_other_kinds_of_files(folder: Path) -> None:
    Path("text.png").write_text("no picture")
    fails(run("encode", "text.png"), "text.png: not a picture")
    fails(run("decode", "text.png", "-o", "x.png"), "text.png: this is no .basic file")
    fails(run("decode", "text.png"), "text.png: this is no .basic file")
    assert Path("text.png").read_text() == "no picture"


def test_a_packed_file_that_is_named_like_its_output(packed: Path) -> None:
    data = packed.read_bytes()
    packed.rename("packed.png")
    fails(run("decode", "packed.png", "--overwrite"), "packed.png: is the input itself")
    assert Path("packed.png").read_bytes() == data


def test_gray_formats_are_for_gray_pictures(packed: Path) -> None:
    fails(run("decode", "packed.basic", "-o", "x.pgm"), "x.pgm: a .pgm file is gray", "name it .ppm")
    assert not Path("x.pgm").exists()
    assert run("decode", "packed.basic", "-o", "x.dat", "--format", "ppm").exit_code == 0
    Image.open("photo.png").convert("L").save("gray.png")
    assert run("encode", "gray.png").exit_code == 0
    assert run("decode", "gray.basic", "-o", "gray.pgm").exit_code == 0
    assert Path("gray.pgm").read_bytes().startswith(b"P5")


# --- info, verify, profile, versions -------------------------------------------------------------------


def test_info_as_text_and_json(packed: Path) -> None:
    done = run("info", "packed.basic")
    assert done.exit_code == 0 and "60x40 RGB" in done.stdout and "tiny-1" in done.stdout
    [found] = json.loads(run("info", "packed.basic", "--json").stdout)
    assert found["bytes"] == packed.stat().st_size and found["level"] == 7
    assert found["bpp"] == round(8 * found["bytes"] / (60 * 40), 5)  # both as encode --json names them


def test_info_of_a_picture_that_no_limit_allows(packed: Path) -> None:
    """Nothing of its size is made, and the command has no option to allow more."""
    content = container.read(packed.read_bytes())
    large = replace(content, header=replace(content.header, width=65_535, height=65_535))
    packed.write_bytes(container.write(large, Limits(max_pixels=1 << 33)))
    assert "65535x65535" in run("info", "packed.basic").stdout


@pytest.mark.parametrize("name", ["i", "file", "e.x"])
def test_errors_name_files_whose_names_are_words_of_theirs(name: str, folder: Path) -> None:
    Path(name).write_bytes(b"no such thing")
    fails(run("decode", name, "-o", "o.png"), f"error: {name}: this is no .basic file")
    fails(run("info", name), f"error: {name}: this is no .basic file")
    fails(run("encode", name), f"error: {name}: not a picture")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_cannot_be_written(packed: Path) -> None:
    commands = "info packed.basic", "encode photo.png -o n.basic", "decode packed.basic -o -"
    for arguments in map(str.split, commands):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=120)
        lines = done.stderr.decode().splitlines()
        assert done.returncode == 1 and len(lines) == 1, lines
        assert lines[0].startswith("basic-run: error: standard output: cannot be written (no space left")


def test_verify_names_each_engine(tiny_path: Path) -> None:
    done = run("verify", "--engine", "onnxruntime", "--engine", "openvino")
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 4
    assert "entropy variant 1 is exact" in done.stdout


def test_verify_fails_if_one_does(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m["entropy"][0]["golden"].update({"graph outputs sha256": "0" * 64}))
    done = run("verify", "--bundle", str(bundle_copy), "--engine", "onnxruntime", "--json")
    assert done.exit_code == 1
    assert [check["exact"] for check in json.loads(done.stdout)["checks"]] == [False, True]


def test_verify_tells_whether_files_are_intact(packed: Path) -> None:
    done = run("verify", "packed.basic")
    assert done.exit_code == 0 and done.stdout == "packed.basic: intact, decoded by auto\n"
    content = container.read(packed.read_bytes())
    other = replace(content, header=replace(content.header, yhat_crc=content.header.yhat_crc ^ 1))
    Path("other.basic").write_bytes(container.write(other))  # which only decoding tells
    Path("cut.basic").write_bytes(packed.read_bytes()[:-3])
    done = run("verify", "packed.basic", "other.basic", "cut.basic", "missing.basic", "--json")
    results = json.loads(done.stdout)
    assert done.exit_code == 1 and [result["intact"] for result in results] == [True, False, False, None]
    assert results[1]["error"].startswith("other.basic: the latents") and "cut off" in results[2]["error"]
    assert results[3]["error"].count("missing.basic") == 1 and len(done.stderr.splitlines()) == 3
    done = run("verify", "packed.basic", "--max-pixels", "9")
    assert done.exit_code == 1 and "allow more with --max-pixels" in done.stderr


def test_verify_reads_standard_input_once(packed: Path) -> None:
    arguments = ["verify", "-", "--engine", "auto", "--engine", "onnxruntime"]
    done = run(*arguments, input=packed.read_bytes())
    lines = [f"standard input: intact, decoded by {engine}\n" for engine in ("auto", "onnxruntime")]
    assert done.exit_code == 0 and done.stdout == "".join(lines)
    [first, _] = json.loads(run(*arguments, "--json", input=packed.read_bytes()).stdout)
    assert first == {"input": "standard input", "engine": "auto", "intact": True, "error": None}


def test_verify_computes_in_the_precision_that_is_asked_for(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    decode = Codec.decode

    def watch(codec: Codec, data: bytes) -> object:
        asked.append(codec.backend.precision)
        return decode(codec, data)

    monkeypatch.setattr(Codec, "decode", watch)
    for precision in ("int16", "float32"):
        assert run("verify", "packed.basic", "--precision", precision, "--jobs", "2").exit_code == 0
    assert asked == ["int16", "float32"]


def test_version_names_library_model_and_engines() -> None:
    done = run("--version")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("basic-codec ") and lines[1].startswith("model tiny-1 (")
    assert lines[2].startswith("entropy path native ")
    assert f"engine onnxruntime {onnxruntime.__version__}" in lines


def test_versions_are_told_without_loading_libraries() -> None:
    code = "import sys; from basic_runtime.cli.versions import version_lines; version_lines(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "onnxruntime" in done.stdout and not {"torch", "openvino"} & set(done.stdout.split())


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "basic_runtime", "--version"], capture_output=True, timeout=120)
    assert done.stdout == command("--version").stdout != b""


def test_several_files_at_a_time_give_the_same_bytes_in_order(photo, tiny_path, tmp_path):
    names = [tmp_path / f"{i}.png" for i in range(6)]
    for number, name in enumerate(names):
        Image.fromarray(photo(40 + 30 * number, 50)).save(name)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    inputs = [*map(str, names[:3]), str(tmp_path / "bad.png"), *map(str, names[3:])]
    outcomes = []
    for workers in ("1", "3"):
        folder = tmp_path / workers
        command = ["encode", *inputs, "--out-dir", str(folder), "--jobs", workers, "--bundle", str(tiny_path)]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1 and result.stderr.count("basic-run: error: ") == 1
        assert [line.split(" ->")[0] for line in result.stdout.splitlines()] == list(map(str, names))
        outcomes.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert outcomes[0] == outcomes[1] and len(outcomes[0]) == 6


@pytest.mark.parametrize(
    ("jobs", "workers", "threads", "expected"),
    [
        (1, None, None, (1, None)),  # one file: the engine's own choice
        (9, 1, None, (1, None)),
        (9, 2, None, (2, 2)),
        (9, None, None, (4, 1)),
        (2, None, None, (2, 2)),
        (9, 16, None, (9, 1)),
        (9, None, 3, (4, 3)),
    ],
)
def test_cores_are_shared(jobs, workers, threads, expected):
    assert share_cores(jobs, workers, threads, cores=4) == expected
