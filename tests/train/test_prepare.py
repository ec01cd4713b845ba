"""Training sets from folders: rules, hashes, what is left out, going on after a stop."""

import csv
import hashlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from processes import children
from skimage import data

from basic_runtime.errors import FileError, ImageError
from basic_train.cli import main
from basic_train.data import list_photos
from basic_train.prepare.duplicates import near_duplicates
from basic_train.prepare.pictures import Hashes, cubic_resize, read_hashes, read_header
from basic_train.prepare.procedure import IMAGENET_SUBSET, Procedure
from basic_train.prepare.run import Preparation, target_names


def small(**rules):
    """Rules for the small pictures of these tests."""
    return Procedure(**({"min_side": 64, "near": None} | rules))


@pytest.fixture
def source(tmp_path):
    """A photo as JPEG, smaller as WebP in a sub-folder, another as PNG, a small and three unusable files."""
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    astronaut, coffee = Image.fromarray(data.astronaut()), Image.fromarray(data.coffee())
    astronaut.save(folder / "astronaut.jpg", quality=90)
    astronaut.resize((400, 400)).save(folder / "sub" / "astronaut.webp", quality=60)
    coffee.resize((300, 200)).save(folder / "coffee.png")
    coffee.resize((100, 60)).save(folder / "thumb.png")
    (folder / "cut.jpg").write_bytes((folder / "astronaut.jpg").read_bytes()[:9000])
    (folder / "empty.png").touch()
    clear = np.dstack([data.coffee()[:200, :200], np.full((200, 200), 99, np.uint8)])
    Image.fromarray(clear).save(folder / "clear.png")
    (folder / "notes.txt").write_text("no picture")
    for hidden in (folder / "._coffee.png", folder / ".thumbnails" / "coffee.png"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_bytes((folder / "coffee.png").read_bytes()[:500])
    return folder


def index(folder):
    with open(folder / "index.csv") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


def run(*arguments):
    return CliRunner().invoke(main, ["prepare", *map(str, arguments)])


def test_the_set_holds_pngs_and_an_index(source, tmp_path):
    out = tmp_path / "out"
    outcome = Preparation(source, out, small(near=12)).run()
    assert (outcome.written, outcome.already_there) == (2, 0)
    assert len(outcome.too_small) == 1 and len(outcome.duplicates) == 1
    assert sorted(os.path.basename(m.split(":")[0]) for m in outcome.unusable) == [
        "clear.png",
        "cut.jpg",
        "empty.png",
    ]
    rows = index(out)
    assert list(rows) == ["astronaut.jpg", "coffee.png"]
    astronaut = rows["astronaut.jpg"]
    assert astronaut["sha256"] == hashlib.sha256((source / "astronaut.jpg").read_bytes()).hexdigest()
    assert (astronaut["width"], astronaut["source_width"], astronaut["factor"]) == ("256", "512", "2")
    with Image.open(out / astronaut["file"]) as picture:
        assert picture.format == "PNG" and picture.size == (256, 256) and picture.mode == "RGB"
    with Image.open(out / "coffee.png") as picture, Image.open(source / "coffee.png") as original:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(original))
    assert [p.name for p in list_photos(out)] == ["astronaut.png", "coffee.png"]


def test_a_stopped_run_goes_on_and_a_changed_source_is_done_again(source, tmp_path):
    out = tmp_path / "out"
    stop_after_one = StopAfter("writing", 1)
    with pytest.raises(KeyboardInterrupt):
        Preparation(source, out, small(), progress=stop_after_one).run()
    assert len(list(out.rglob("*.png"))) == 1 and not (out / "index.csv").exists()
    journal = out / ".prepare" / "written.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"key": "coffee.png", "fact": {"sta')
    outcome = Preparation(source, out, small()).run()
    assert (outcome.written, outcome.already_there) == (2, 1)
    first = (out / "index.csv").read_text()
    outcome = Preparation(source, out, small()).run()
    assert (outcome.written, outcome.already_there) == (0, 3) and (out / "index.csv").read_text() == first
    Image.fromarray(data.coffee()[:150, :150]).save(source / "coffee.png")
    (source / "astronaut.jpg").unlink()
    outcome = Preparation(source, out, small()).run()
    assert (outcome.written, outcome.already_there) == (1, 1) and outcome.stale == ["astronaut.png"]
    assert index(out)["coffee.png"]["width"] == "150"


def test_a_name_that_was_another_source_s_is_written_again(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    Image.fromarray(data.coffee()[:150, :150]).save(source / "a.png")
    Preparation(source, out, small()).run()
    Image.fromarray(data.astronaut()[:150, :150]).save(source / "a.webp", lossless=True)
    Preparation(source, out, small()).run()
    (source / "a.png").unlink()
    Preparation(source, out, small()).run()
    assert list(index(out)) == ["a.webp"]
    with Image.open(out / index(out)["a.webp"]["file"]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), data.astronaut()[:150, :150])


def test_files_of_the_user_are_not_replaced(source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.csv").write_text("mine")
    with pytest.raises(FileError, match="out: holds files that are of no training set"):
        Preparation(source, out, small()).run()
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [("index.csv", "mine")]
    (out / "index.csv").rename(tmp_path / "mine.csv")
    (out / ".DS_Store").touch()
    Preparation(source, out, small()).run()
    Image.fromarray(data.chelsea()[:150, :150]).save(source / "new.webp", lossless=True)
    (out / "new.png").write_text("mine")
    with pytest.raises(FileError, match=r"new\.png: is no file of this set; move it"):
        Preparation(source, out, small()).run()
    assert (out / "new.png").read_text() == "mine"
    (source / "new.webp").unlink()
    assert Preparation(source, out, small()).run().stale == []


def test_a_killed_run_knows_the_files_that_it_had_not_noted_yet(source, tmp_path):
    out = tmp_path / "out"
    Preparation(source, out, small()).run()
    journal = out / ".prepare" / "written.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:1]))
    outcome = Preparation(source, out, small()).run()
    assert (outcome.written, outcome.already_there) == (2, 1)


@pytest.mark.parametrize("near", [12, None])
def test_a_transparent_copy_is_neither_a_twin_nor_counted(tmp_path, near):
    folder = tmp_path / "source"
    folder.mkdir()
    coffee = data.coffee()[:300, :300]
    Image.fromarray(coffee[:200, :200]).save(folder / "other.png")
    Image.fromarray(np.dstack([coffee, np.full((300, 300), 99, np.uint8)])).save(folder / "clear.png")
    Image.fromarray(coffee).resize((250, 250)).save(folder / "photo.png")
    outcome = Preparation(folder, tmp_path / "out", small(near=near, count=1)).run()
    assert list(index(tmp_path / "out")) == ["photo.png"] and outcome.not_chosen == ["other.png"]
    assert [line.endswith("clear.png: is transparent in parts, so no photo") for line in outcome.unusable] == [True]


def test_a_name_that_is_no_text_is_left_out(source, tmp_path):
    os.rename(source / "coffee.png", os.fsencode(source) + b"/caf\xe9.png")
    result = run(source, tmp_path / "out", "--min-side", 64, "--jobs", 1)
    assert result.exit_code == 0 and "its name is not UTF-8; rename the file" in result.stderr
    assert list(index(tmp_path / "out")) == ["astronaut.jpg"]
    result = run(source, tmp_path / "out", "--min-side", 64, "--jobs", 1, "--json")
    assert result.exit_code == 0 and "its name is not UTF-8" in result.stdout


class StopAfter:
    """Progress that presses Ctrl-C after some files of a stage."""

    def __init__(self, stage, count):
        self.stage, self.count = stage, count

    def __call__(self, stage, done, total):
        if (stage, done) == (self.stage, self.count):
            raise KeyboardInterrupt


def test_worker_processes_give_the_same_set(source, tmp_path):
    Preparation(source, tmp_path / "one", small(near=12)).run()
    Preparation(source, tmp_path / "two", small(near=12), jobs=2).run()
    assert (tmp_path / "one" / "index.csv").read_text() == (tmp_path / "two" / "index.csv").read_text()
    for row in index(tmp_path / "one").values():
        assert (tmp_path / "one" / row["file"]).read_bytes() == (tmp_path / "two" / row["file"]).read_bytes()


def test_a_killed_worker_ends_the_run_with_one_line(source, tmp_path):
    def kill(stage, done, total):
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(ImageError, match="a worker process was killed"):
        Preparation(source, tmp_path / "out", small(), jobs=2, progress=kill).run()
    assert Preparation(source, tmp_path / "out", small()).run().pictures == 3


def test_the_imagenet_subset_is_the_largest_halved_by_the_shorter_side():
    rules = IMAGENET_SUBSET
    assert (rules.count, rules.choose, rules.near) == (8000, "largest", None)
    assert rules.result(1201, 513, True) == (600, 256, 2.0)
    assert rules.result(3000, 512, True) == (3000, 512, 1.0)
    assert rules.result(1025, 2048, lossy=False) == (512, 1024, 2.0)


def test_the_imagenet_subset_from_the_command_line(tmp_path):
    folder, out = tmp_path / "train", tmp_path / "out"
    (folder / "n01").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (600, 601, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "n01" / "large.bmp")
    Image.fromarray(noise[:400]).save(folder / "n01" / "middle.JPEG")
    Image.fromarray(noise[:300]).save(folder / "small.png")
    result = run(folder, out, "--like", "imagenet-subset", "--count", 2, "--jobs", 1, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["not_chosen"] == ["small.png"]
    with Image.open(out / "n01" / "large.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), cubic_resize(noise, 300, 300))
    with Image.open(out / "n01" / "middle.png") as a, Image.open(folder / "n01" / "middle.JPEG") as b:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_cubic_resizing_is_that_of_opencv():
    # cv2.resize(picture, (3, 2), interpolation=cv2.INTER_CUBIC), opencv-python-headless 5.0.0
    picture = [
        [95, 130, 194, 217, 207, 235, 15],
        [163, 33, 215, 217, 130, 248, 189],
        [16, 69, 184, 232, 205, 78, 169],
        [61, 125, 10, 29, 240, 66, 19],
        [182, 39, 59, 4, 59, 81, 222],
    ]
    resized = cubic_resize(np.array(picture, np.uint8)[:, :, None], 3, 2)
    assert resized.dtype == np.uint8
    np.testing.assert_allclose(resized[:, :, 0].astype(int), [[68, 215, 242], [118, 2, 47]], atol=1)


@pytest.mark.parametrize(
    ("width", "height", "lossy", "expected"),
    [
        (1000, 600, True, (500, 300, 2.0)),
        (1000, 510, True, None),
        (1000, 511, False, (1000, 511, 1.0)),
        (300, 255, False, None),
        (8192, 1024, False, (2048, 256, 4.0)),
        (9000, 1024, False, None),
        (3000, 2000, True, (1500, 1000, 2.0)),
    ],
)
def test_sizes_of_the_general_rules(width, height, lossy, expected):
    assert Procedure().result(width, height, lossy) == expected


def test_lossy_sources_are_told_from_lossless_ones(tmp_path):
    picture = Image.fromarray(data.coffee()[:64, :64])
    for name, options in {
        "a.jpg": {},
        "b.webp": {"quality": 50},
        "c.webp": {"lossless": True},
        "d.png": {},
        "e.tif": {"compression": "jpeg"},
        "f.tif": {},
    }.items():
        picture.save(tmp_path / name, **options)
    lossy = [read_header(tmp_path, p.name).lossy for p in sorted(tmp_path.iterdir())]
    assert lossy == [True, True, False, False, True, False]


def test_copies_are_found_whatever_their_size_and_compression(tmp_path):
    for name in ("astronaut", "chelsea", "coffee"):
        picture = Image.fromarray(getattr(data, name)())
        picture.save(tmp_path / f"{name}.png")
        picture.resize((picture.width // 2, picture.height // 2)).save(tmp_path / f"{name}.jpg", quality=70)
    gray = Image.fromarray(data.coffee()).convert("L")
    deep = np.asarray(gray, np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    names = sorted(p.name for p in tmp_path.iterdir())
    hashes = {name: read_hashes(tmp_path, name) for name in names}
    assert all(isinstance(h, Hashes) for h in hashes.values())
    order = sorted(names, key=lambda name: (not name.endswith(".png"), name))
    copies = near_duplicates({n: h.difference for n, h in hashes.items()}, order, 12)
    assert copies == {
        "astronaut.jpg": "astronaut.png",
        "chelsea.jpg": "chelsea.png",
        "coffee.jpg": "coffee.png",
        "deep.png": "coffee.png",
    }


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_a_jpeg_has_the_hash_of_its_picture_at_half_the_size(tmp_path, name):
    picture = Image.fromarray(getattr(data, name)())
    picture.save(tmp_path / "whole.jpg", quality=90)
    picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS).save(tmp_path / "half.png")
    whole, half = (int(read_hashes(tmp_path, n).difference, 16) for n in ("whole.jpg", "half.png"))
    assert (whole ^ half).bit_count() <= 6


@pytest.mark.parametrize("distance", [0, 3, 15])
def test_near_duplicates_are_those_of_comparing_all_pairs(distance):
    rng = np.random.default_rng(distance)
    base = rng.integers(0, 2, (12, 256), dtype=np.uint8)
    rows = [base[rng.integers(12)] ^ (rng.random(256) < rng.choice([0, 0.02, 0.06])) for _ in range(80)]
    hashes = {f"{i:02}": np.packbits(row).tobytes().hex() for i, row in enumerate(rows)}
    kept: list[str] = []
    for name, value in hashes.items():
        if all((int(value, 16) ^ int(hashes[k], 16)).bit_count() > distance for k in kept):
            kept.append(name)
    copies = near_duplicates(hashes, list(hashes), distance)
    assert set(hashes) - set(copies) == set(kept) and len(kept) < 80
    for name, twin in copies.items():
        assert twin in kept and (int(hashes[name], 16) ^ int(hashes[twin], 16)).bit_count() <= distance


def test_a_stop_while_worker_processes_start_leaves_no_traceback(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for i in range(40):
        Image.fromarray(np.full((400, 400, 3), i, np.uint8)).save(folder / f"{i:02}.png")
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        [sys.executable, "-P", "-m", "basic_train.cli", "prepare", folder, tmp_path / "out", "--jobs", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed, start_new_session=True, text=True,
    )  # fmt: skip
    while len(children(running.pid)) < 2 and running.poll() is None:  # the first worker, beside Python's tracker
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    _, errors = running.communicate(timeout=100)
    assert running.returncode == 130 and errors == "basic-train: stopped\n"


def test_the_random_choice_is_that_of_the_seed(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for i in range(12):
        Image.new("RGB", (64 + i, 64), (i, 0, 0)).save(folder / f"{i:02}.png")
    chosen = []
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        Preparation(folder, tmp_path / out, small(count=4, choose="random", seed=seed)).run()
        chosen.append(list(index(tmp_path / out)))
    assert chosen[0] == chosen[1] != chosen[2] and all(len(c) == 4 for c in chosen)
    Preparation(folder, tmp_path / "d", small(count=2)).run()
    assert list(index(tmp_path / "d")) == ["10.png", "11.png"]


def test_no_two_sources_share_a_target():
    names = ["a.jpg", "a.png", "a.jpg.png", "b.png", "sub/a.jpg"]
    targets = target_names(names)
    assert len(set(targets.values())) == len(names)
    assert targets["b.png"] == "b.png" and targets["sub/a.jpg"] == "sub/a.png"


def test_a_set_inside_its_source_is_not_read_again(source):
    out = source / "out"
    for _ in range(2):
        assert Preparation(source, out, small()).run().pictures == 3


def test_other_rules_need_another_folder(source, tmp_path):
    Preparation(source, tmp_path / "out", small()).run()
    with pytest.raises(FileError, match="made with other options"):
        Preparation(source, tmp_path / "out", small(factor=1.5)).run()


def test_errors_are_one_line(source, tmp_path):
    for folder, out, expected in (
        (tmp_path / "missing", tmp_path / "o", "no such folder"),
        (source, source, "is the source itself"),
        (source, source / "notes.txt", "cannot be written"),
    ):
        result = run(folder, out)
        assert result.exit_code == 1 and expected in result.stderr and result.stderr.count("\n") == 1
    result = run(source, tmp_path / "none", "--min-side", 5000, "--max-side", 6000, "--jobs", 1)
    assert result.exit_code == 1 and "no picture remains: 6 too small, 0 duplicates, 1 not usable" in result.stderr
    assert run(source, tmp_path / "none", "--min-side", 64, "--jobs", 1).exit_code == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ImageError, match="there is none below this folder"):
        Preparation(empty, tmp_path / "o2", small()).run()
    assert not (tmp_path / "o2" / "index.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--near", "3", "--keep-duplicates"], "not both"),
        (["--like", "imagenet-subset", "--factor", "2"], "--factor"),
        (["--min-side", "300", "--max-side", "200"], "max_side=200 is less"),
        (["--seed", "3"], "--count and --choose random"),
        (["--seed", "3", "--count", "2"], "--count and --choose random"),
        (["--choose", "random"], "--count"),
    ],
)
def test_options_that_contradict_are_usage_errors(source, tmp_path, options, message):
    result = run(source, tmp_path / "out", *options)
    assert result.exit_code == 2 and message in result.stderr


def test_the_command_says_what_became_of_the_files(source, tmp_path):
    result = run(source, tmp_path / "out", "--min-side", 64, "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert "2 pictures, 2 of them new" in result.stdout and "1 duplicates, 3 not usable" in result.stdout
    assert sum(line.startswith("left out: ") for line in io.StringIO(result.stderr)) == 3
