"""`basic-run evaluate`: measurements, curves, BD-rates, resuming."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from basic_runtime.cli import main
from basic_runtime.codec import Codec
from basic_runtime.errors import EngineError, FileError
from basic_runtime.evaluate import measure, report
from basic_runtime.evaluate.curves import KODAK_NAMES, Curve, bd_rate, curves, per_picture, published_kodak
from basic_runtime.evaluate.measure import COLUMNS, OURS, Results, Row, ms_ssim
from basic_runtime.metrics import psnr

from .commands import fails


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, photo) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, size in (("a", (64, 96)), ("b", (70, 50))):
        Image.fromarray(photo(*size)).save(folder / f"{name}.png")
    Image.fromarray(photo(64, 64)[:, :, 0]).save(folder / "gray.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def evaluate(*arguments: object):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


SETTING = measure.Setting(OURS, "", 0, 50)


def abort(*_: object) -> None:
    os.abort()


def row(bytes: int, psnr: float, quality: int = 50, **changes) -> Row:
    made = Row("JPEG", "", None, quality, "a.png", 100, 80, bytes, psnr, 0.9, 1.0, 2.0)
    return replace(made, **changes)


def test_rows_are_those_of_real_files(pictures, tiny_path, tmp_path):
    output = tmp_path / "new" / "out"
    options = ("--levels", "0,1", "--qualities", "20,80", "--codecs", "jpeg,webp,jpegxl", "--json")
    result = evaluate(pictures, "-o", output, "--bundle", tiny_path, *options)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(output.with_suffix(".csv").open()))
    assert len(rows) == 3 * (2 * 2 + 9 + 9 + 8)
    codec, pixels = Codec(tiny_path), np.asarray(Image.open(pictures / "a.png"))
    data = codec.encode(pixels, quality=80, level=1)
    found = next(r for r in rows if (r["picture"], r["level"], r["quality"], r["codec"]) == ("a.png", "1", "80", OURS))
    assert int(found["bytes"]) == len(data)
    assert float(found["psnr"]) == psnr(pixels, codec.decode(data))
    assert (int(found["width"]), int(found["height"])) == (96, 64) and float(found["encode_ms"]) > 0
    values = json.loads(result.stdout)
    assert values == json.loads(output.with_suffix(".json").read_text())
    assert values["pictures"] == 3 and {c["name"] for c in values["curves"]} == {
        "level 0", "level 1", "JPEG", "WebP", "JPEG XL",
    }  # fmt: skip
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_an_evaluation_goes_on_where_it_stopped(pictures, tiny_path, tmp_path):
    output = tmp_path / "out"
    options = ("--bundle", tiny_path, "--qualities", "50", "--levels", "0", "--codecs", "jpeg")
    assert evaluate(pictures, "-o", output, *options).exit_code == 0
    whole = output.with_suffix(".csv").read_text().splitlines()
    # As if killed inside the last number of a row; marked times show which rows are kept.
    kept = [line.rsplit(",", 1)[0] + ",12345.5" for line in whole[1:12]]
    output.with_suffix(".csv").write_text("\n".join([whole[0], *kept, whole[12][:-3]]))
    assert evaluate(pictures, "-o", output, *options).exit_code == 0
    again = list(csv.DictReader(output.with_suffix(".csv").open()))
    assert sum(r["decode_ms"] == "12345.5" for r in again) == 11
    assert len(again) == len(whole) - 1
    assert len({(r["codec"], r["quality"], r["picture"]) for r in again}) == len(again)
    assert all(len(r) == len(COLUMNS) and float(r["decode_ms"]) > 0 for r in again)


def test_a_row_cut_off_anywhere_is_measured_again(tmp_path):
    path = tmp_path / "out.csv"
    rows = [row(1000, 30.25, picture=name, decode_ms=123.456) for name in ("a.png", "b.png", "c.png")]
    results = Results(path)
    for each in rows[:2]:
        results.add(each)
    data = path.read_bytes()
    last = data[:-2].rindex(b"\n") + 1
    for cut in range(last, len(data)):
        path.write_bytes(data[:cut])
        again = Results(path)
        assert list(again.rows.values()) == rows[:1]
        again.add(rows[2])
        assert list(Results(path).rows.values()) == [rows[0], rows[2]]


@pytest.mark.parametrize("line", ["JPEG,,,50\n", "JPEG,,,50,a.png,9,9,9,x,0.9,1,2\n", "{row},1\n"])
def test_a_damaged_row_is_an_error_that_names_its_line(tmp_path, line):
    path = tmp_path / "out.csv"
    Results(path).add(row(1000, 30.0))
    good = path.read_text().splitlines()[1]
    with path.open("a") as file:
        file.write(line.format(row=good))
    with pytest.raises(FileError, match="line 3 is damaged"):
        Results(path)


def test_names_of_pictures_need_be_no_text(tmp_path):
    path, name = tmp_path / "out.csv", os.fsdecode(b"\xff.png")
    Results(path).add(replace(row(1000, 30.0), picture=name))
    Results(path).add(row(1000, 30.0))
    assert {each.picture for each in Results(path).rows.values()} == {name, row(1000, 30.0).picture}


def test_rows_of_another_bundle_are_not_taken_for_this_one(pictures, tiny_path, other_path, tmp_path):
    output = tmp_path / "out"
    for bundle in (tiny_path, other_path):
        options = ("--bundle", bundle, "--qualities", "50", "--levels", "0", "--codecs", "none")
        assert evaluate(pictures, "-o", output, *options).exit_code == 0
    models = [r["model"] for r in csv.DictReader(output.with_suffix(".csv").open())]
    assert len(models) == 6 and len(set(models)) == 2


def test_rows_of_a_precision_are_its_own(pictures, tiny_path, tmp_path):
    output = tmp_path / "out"
    options = ("--bundle", tiny_path, "--qualities", "50", "--levels", "0", "--codecs", "none", "-o", output)
    for more in ((), ("--precision", "float32")):
        assert evaluate(pictures, *options, *more).exit_code == 0
    models = [r["model"] for r in csv.DictReader(output.with_suffix(".csv").open())]
    assert [model.endswith(" float32") for model in models] == [False] * 3 + [True] * 3
    result = evaluate(pictures, *options, "--engine", "onnxruntime", "--precision", "int16")
    assert result.exit_code == 1 and "computes in float32, not in int16" in result.stderr


def test_processes_side_by_side_give_the_same_sizes(pictures, tiny_path, tmp_path):
    sizes = []
    for jobs in (1, 2):
        output = tmp_path / str(jobs)
        options = ("--bundle", tiny_path, "--qualities", "50", "--levels", "0", "--codecs", "webp")
        result = evaluate(pictures, "-o", output, "--jobs", jobs, "--threads", 1, *options)
        assert result.exit_code == 0, result.output
        rows = csv.DictReader(output.with_suffix(".csv").open())
        sizes.append({(r["codec"], r["quality"], r["picture"]): r["bytes"] for r in rows})
    assert sizes[0] == sizes[1]


def test_a_file_that_cannot_be_read_is_left_out(pictures, tiny_path, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    options = ("--bundle", tiny_path, "--qualities", "50", "--levels", "0", "--codecs", "jpeg", "--json")
    result = evaluate(tmp_path, *options)
    assert result.exit_code == 1 and "no picture in this folder can be compared" in result.stderr
    assert "bad.png: not a picture" in result.stderr and len(result.stderr.splitlines()) == 1
    (tmp_path / "good.png").write_bytes((pictures / "a.png").read_bytes())
    result = evaluate(tmp_path, *options, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "bad.png: not a picture" in result.stderr
    assert json.loads(result.stdout)["pictures"] == 1
    assert {r["picture"] for r in csv.DictReader((tmp_path / "out.csv").open())} == {"good.png"}


def test_a_picture_that_another_codec_cannot_hold_is_left_out(pictures, tiny_path, tmp_path):
    Image.new("RGB", (16_384, 1)).save(tmp_path / "long.png")
    (tmp_path / "good.png").write_bytes((pictures / "a.png").read_bytes())
    options = ("--bundle", tiny_path, "--qualities", "50", "--levels", "0", "--json")
    result = evaluate(tmp_path, *options, "--codecs", "webp")
    assert result.exit_code == 1 and json.loads(result.stdout)["pictures"] == 1
    assert "long.png: has 16384x1 pixels, and WebP takes at most 16383 a side: compare it without" in result.stderr
    assert evaluate(tmp_path, *options, "--codecs", "none").exit_code == 0


def test_a_folder_that_has_no_such_name_is_one_line(tiny_path, tmp_path):
    result = evaluate(tmp_path / ("x" * 300), "--bundle", tiny_path)
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
    assert "cannot be read (file name too long): check its permissions" in result.stderr


def test_times_are_without_loading(pictures, tiny_path, monkeypatch):
    """Whatever is loaded, is loaded before anything of its level and quality is coded that counts."""
    sizes: list[tuple[int, ...]] = []
    encode = Codec.encode

    def watched(self, image, **options):
        sizes.append((options["quality"], *image.shape[:2]))
        return encode(self, image, **options)

    monkeypatch.setattr(Codec, "encode", watched)
    measure._warm_up.cache_clear()
    options = ("--qualities", "50,90", "--levels", "1", "--codecs", "none")
    assert evaluate(pictures, "--bundle", tiny_path, *options).exit_code == 0
    for quality in (50, 90):
        shapes = [shape for (of, *shape) in sizes if of == quality]
        assert shapes == [[64, 64], [64, 96], [70, 50], [64, 64]]  # the first is not one of the pictures


@pytest.mark.parametrize("engine", ["none-such", "onnxruntime-cuda"])
def test_an_engine_that_is_not_there_is_one_line(pictures, tiny_path, engine):
    """An error that could not be pickled, or a pool that broke, was a traceback."""
    result = evaluate(pictures, "--bundle", tiny_path, "--engine", engine, "--jobs", 2, "--codecs", "none")
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1 and engine in result.stderr


def test_a_process_that_is_killed_is_one_line(pictures, monkeypatch):
    monkeypatch.setattr(measure, "_measure", abort)
    with pytest.raises(EngineError, match="take fewer --jobs"):
        list(measure._side_by_side([(pictures, SETTING, 1, 0)], (None, "onnxruntime", 1), 1))


def test_the_table_is_printed(pictures, tiny_path):
    options = ("--qualities", "1,50,100", "--levels", "1", "--codecs", "jpeg,webp")
    result = evaluate(pictures, "--bundle", tiny_path, *options)
    assert result.exit_code == 0, result.output
    for part in ("tiny-1", "3 pictures", "level 1", "JPEG", "BD-rate"):
        assert part in result.stdout


def test_what_there_is_not_is_not_explained(pictures, tiny_path):
    result = evaluate(pictures, "--bundle", tiny_path, "--qualities", "50", "--levels", "0", "--codecs", "none")
    assert result.exit_code == 0 and "level 0" in result.stdout and "BD-rate" not in result.stdout
    assert "time budget" not in evaluate("--help").stdout
    decoding = CliRunner().invoke(main, ["decode", "--help"]).stdout
    assert "The best level that takes" in " ".join(decoding.split()) and "effort" not in decoding


def test_a_terminal_of_80_columns_shows_the_whole_table():
    curves = [
        {"name": name, "bpp": [0.1, 2.34], "psnr": [27.12, 41.23], "encode_ms": 1234.5, "decode_ms": 2345.6}
        for name in ("mbt2018-mean", "JPEG", "hyperprior (Ballé 2018)")
    ]
    deltas = [
        {"metric": metric, "anchor": anchor, "codec": "mbt2018-mean", "percent": -51.23, "overlap": 0.1}
        for metric in ("psnr", "ms_ssim")
        for anchor in ("JPEG", "WebP", "AVIF")
    ]
    values = {"model": "m", "model_id": "1", "pictures": 24, "curves": curves, "bd_rates": deltas}
    console = Console(width=80, file=io.StringIO())
    console.print(report.table(values))
    printed = console.file.getvalue()
    assert "…" not in printed and "1234" in printed and printed.count("~-51.2") == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("{missing}",), 1, "no such folder"),
        (("{empty}",), 1, "no pictures in this folder"),
        (("{pictures}", "--levels", "9"), 2, "no list of levels"),
        (("{pictures}", "--qualities", "0"), 2, "from 1 to 100"),
        (("{pictures}", "--codecs", "gif"), 2, "'gif' is none of jpeg, webp"),
        (("{pictures}", "--codecs", ""), 2, "--codecs names none: name some of jpeg, webp"),
        (("{pictures}", "--codecs", "none,jpeg"), 2, "'none' is none of jpeg, webp"),
        (("{pictures}", "-o", "{table}"), 1, "is no table of basic-run evaluate"),
        (("{pictures}", "-o", "."), 1, ".: is a folder: name the results in it, like -o results"),
        (("{pictures}", "-o", "{empty}"), 1, "empty: is a folder: name the results in it"),
        (("{pictures}", "-o", "{new}/"), 1, "new/: is a folder: name the results in it"),
    ],
)
def test_wrong_arguments(pictures, tiny_path, tmp_path, arguments, code, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    places = {
        "missing": tmp_path / "missing", "empty": tmp_path / "empty", "pictures": pictures,
        "table": tmp_path / "table", "new": tmp_path / "new",
    }  # fmt: skip
    result = evaluate(*(a.format(**places) for a in arguments), "--bundle", tiny_path)
    assert result.exit_code == code and message in result.output
    assert len(result.stderr.strip().splitlines()) == 1 or code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "table.csv"]


@pytest.mark.parametrize(("given", "name"), [("v1.2", "v1.2"), ("v1.2.csv", "v1.2"), ("all", "all")])
def test_results_have_the_name_that_was_given(pictures, tiny_path, tmp_path, given, name):
    options = ("--bundle", tiny_path, "--qualities", "50", "--levels", "0", "--codecs", "none")
    assert evaluate(pictures, "-o", tmp_path / "res" / given, *options).exit_code == 0
    names = sorted(path.name for path in (tmp_path / "res").iterdir())
    assert names == [f"{name}.csv", f"{name}.json", f"{name}.png"]


def test_pictures_are_neither_replaced_by_results_nor_results_measured(pictures, tiny_path, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    photo = (pictures / "a.png").read_bytes()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(photo)
    options = ("--bundle", tiny_path, "--qualities", "50", "--levels", "0", "--codecs", "none", "--json")
    for given in ("a", "a.png"):
        fails(
            evaluate(folder, "-o", folder / given, *options), "a.png: exists already, and is no result", "name another"
        )
    (folder / "a.csv").write_text(",".join(COLUMNS) + "\n")  # as of an evaluation that was stopped
    fails(evaluate(folder, "-o", folder / "a", *options), "as there is no", "a.json")
    assert (folder / "a.png").read_bytes() == photo
    for _ in range(2):
        result = evaluate(folder, "-o", folder / "results", *options)
        assert result.exit_code == 0 and json.loads(result.stdout)["pictures"] == 2
    (folder / "results.csv").unlink()
    fails(evaluate(folder, "-o", folder / "results", *options), "results.json: exists already")


def test_a_missing_package_is_said_before_anything_is_coded(pictures, tiny_path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    result = evaluate(pictures, "--bundle", tiny_path, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "pip install '.[evaluate]' in the sources" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_without_its_package_ms_ssim_is_left_out(pictures, tiny_path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    options = ("--bundle", tiny_path, "--qualities", "50", "--levels", "0", "--codecs", "none", "--json")
    result = evaluate(pictures, *options)
    assert result.exit_code == 0 and "note: MS-SSIM needs packages" in result.stderr
    assert "pip install '.[ms-ssim]' in the sources" in result.stderr
    [curve] = json.loads(result.stdout)["curves"]
    assert curve["ms_ssim"] == [None] and curve["psnr"][0] > 10


def test_ms_ssim():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (176, 180, 3), dtype=np.uint8)
    noisy = np.clip(picture.astype(int) + rng.integers(-20, 21, picture.shape), 0, 255).astype(np.uint8)
    assert ms_ssim(picture, picture) == pytest.approx(1)
    assert 0.5 < ms_ssim(picture, noisy) < 0.9999
    assert math.isnan(ms_ssim(picture[:160], noisy[:160]))


def test_curves_are_means_over_pictures_in_order_of_rate():
    rows = [
        row(2000, 30.0, 80), row(1000, 26.0, 20), row(4000, 34.0, 80, picture="b.png"),
        row(3000, 30.0, 20, picture="b.png", encode_ms=9.0),
    ]  # fmt: skip
    (curve,) = curves(rows)
    assert curve.name == "JPEG" and curve.bpp == (2.0, 3.0) and curve.psnr == (28.0, 32.0)
    assert curve.encode_ms == 1.0 and curve.decode_ms == 2.0


def test_a_picture_without_any_error_counts_as_99_db():
    rows = [row(1000, 27.0), row(400, math.inf, picture="white.png")]
    assert curves(rows)[0].psnr == ((27.0 + 99) / 2,)


def test_blank_pages_give_valid_json_and_no_warnings(tiny_path, tmp_path):
    """They gave Infinity, which is no JSON, and NumPy's warnings of inf - inf."""
    folder = tmp_path / "pages"
    folder.mkdir()
    Image.new("RGB", (64, 64), "white").save(folder / "white.png")
    options = ("--bundle", tiny_path, "--levels", "0", "--qualities", "20,60,90", "--codecs", "jpeg,webp", "--json")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = evaluate(folder, "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert "inf" in {r["psnr"] for r in rows}  # the table has what was measured

    def refused(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    values = json.loads(result.stdout, parse_constant=refused)
    assert max(value for curve in values["curves"] for value in curve["psnr"]) == 99
    assert values == json.loads((tmp_path / "out.json").read_text(), parse_constant=refused)


def test_bd_rate_of_shifted_curves():
    """Half the rate at each quality is -50 %, and the overlap counts the anchor's range."""
    one = Curve("one", (0.25, 0.5, 1.0, 2.0), (28.0, 31.0, 34.0, 37.0), (0.9, 0.95, 0.97, 0.98))
    half = replace(one, bpp=tuple(b / 2 for b in one.bpp))
    for metric in ("psnr", "ms_ssim"):
        delta = bd_rate(one, half, metric)
        assert delta is not None and delta.percent == pytest.approx(-50, abs=0.01)
        assert delta.overlap == pytest.approx(1)
    back = bd_rate(half, one, "psnr")
    assert back is not None and back.percent == pytest.approx(100, abs=0.01)
    upper = replace(half, psnr=tuple(p + 6 for p in half.psnr))
    short = bd_rate(one, upper, "psnr")
    assert short is not None and short.overlap == pytest.approx(1 / 3)
    assert bd_rate(one, replace(one, psnr=tuple(p + 20 for p in one.psnr)), "psnr") is None
    unknown = replace(one, ms_ssim=(math.nan,) * 4)
    assert bd_rate(one, unknown, "ms_ssim") is None


def test_median_of_pictures():
    rows = []
    for picture, factor in (("a.png", 0.5), ("b.png", 0.8), ("c.png", 0.9)):
        for quality, (size, value) in enumerate([(1000, 28.0), (2000, 32.0), (4000, 36.0)]):
            rows.append(row(size, value, quality, picture=picture))
            rows.append(row(int(factor * size), value, quality, picture=picture, codec="WebP"))
    median = per_picture(rows, "JPEG", "WebP", "psnr")
    assert median == pytest.approx(-20, abs=0.2)
    assert per_picture(rows, "JPEG", "AVIF", "psnr") is None


def test_published_curves_are_shown_for_kodak_alone():
    kodak = [row(1, 30.0, picture=f"{name}.png") for name in KODAK_NAMES]
    found = {curve.name: curve for curve in published_kodak(kodak)}
    assert {"VTM", "BPG 4:4:4", "mbt2018"} <= set(found)
    for curve in found.values():
        assert list(curve.bpp) == sorted(curve.bpp) and list(curve.psnr) == sorted(curve.psnr)
        assert len(curve.bpp) == len(curve.psnr) == len(curve.ms_ssim) == 8
    # BPG against VTM on Kodak is known to be about +22 %.
    delta = bd_rate(found["VTM"], found["BPG 4:4:4"], "psnr")
    assert delta is not None and 18 < delta.percent < 32
    assert published_kodak(kodak[1:]) == [] and published_kodak([*kodak, row(1, 30.0)]) == []


def test_results_that_cannot_be_written_are_an_error(tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        Results(tmp_path / "no" / "out.csv").add(row(1, 30.0))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_that_is_called_like_a_picture_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "gone.png").symlink_to("nowhere")
    assert [path.name for path in measure.list_pictures(tmp_path)] == ["a.png", "gone.png"]
