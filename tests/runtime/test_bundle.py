"""Bundles: what is read, and how each kind of damage is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from basic_runtime.bundle import BUNDLE_VARIABLE, Bundle, default_bundle_path
from basic_runtime.codec import Codec
from basic_runtime.errors import BundleError


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def test_a_bundle_tells_its_parts(tiny_path: Path) -> None:
    bundle = Bundle(tiny_path)
    assert bundle.name == "tiny-1" and len(bundle.model_id) == 8
    assert bundle.level(7).entropy_variant == 1 and len(bundle.entropy(1).stages) == 8
    assert bundle.entropy(0).stages[0].slots == ((0, 0, 0),)
    assert bundle.graph(bundle.level(0).g_s).transform == "g_s"
    assert bundle.graph_path(bundle.level(0).g_s).is_file()
    assert bundle.encode_gain(0).shape == (1, 8, 1, 1)
    np.testing.assert_allclose(bundle.encode_gain(63) * bundle.decode_gain(63), 1, rtol=1e-6)
    assert bundle.coder_tables.rows == 64 + bundle.manifest.z_channels


@pytest.mark.parametrize("index", [-1, 8])
def test_a_level_that_is_not_there(tiny_path: Path, index: int) -> None:
    with pytest.raises(ValueError, match="level must be 0 to 7"):
        Bundle(tiny_path).level(index)


def test_the_environment_names_the_default(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUNDLE_VARIABLE, str(tiny_path))
    assert default_bundle_path() == tiny_path
    assert Codec().bundle.name == "tiny-1"


def test_a_default_that_is_not_installed_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basic_runtime.bundle.MODELS_FOLDER", tmp_path)
    with pytest.raises(BundleError, match="not installed; name a bundle with --bundle"):
        Bundle()


def test_a_bundle_that_ships_with_the_package_is_known_by_its_name(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("basic_runtime.bundle.MODELS_FOLDER", tiny_path.parent)
    monkeypatch.chdir(tmp_path)
    assert Bundle("tiny-1").path == tiny_path
    monkeypatch.setenv("BASIC_BUNDLE", "tiny-1")
    assert Bundle().path == tiny_path
    with pytest.raises(BundleError, match="no such bundle folder"):
        Bundle("./tiny-1")
    (tmp_path / "tiny-1").mkdir()  # what the user has goes first
    with pytest.raises(BundleError):
        Bundle("tiny-1")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle folder: name a bundle with --bundle"):
        Bundle(tmp_path / "missing")


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest.json is missing: name a bundle with --bundle"):
        Bundle(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["manifest.json", "weights.bin", "tables.safetensors"])
def test_what_is_no_file_is_not_waited_for(bundle_copy: Path, name: str) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (bundle_copy / name).unlink()
        make(bundle_copy / name)
        with pytest.raises(BundleError, match=f"{name}: is no file: get the bundle again"):
            Bundle(bundle_copy)


def test_a_manifest_without_end_is_not_read(bundle_copy: Path) -> None:
    with open(bundle_copy / "manifest.json", "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="is larger than 16 MiB, and no manifest"):
        Bundle(bundle_copy)


def test_a_manifest_that_is_no_json(bundle_copy: Path) -> None:
    (bundle_copy / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="manifest.json: Expecting"):
        Bundle(bundle_copy)


@pytest.mark.parametrize("name", ["weights.bin", "tables.safetensors", "golden.safetensors"])
def test_a_changed_byte_in_a_file_is_found(bundle_copy: Path, name: str) -> None:
    data = bytearray((bundle_copy / name).read_bytes())
    data[-1] ^= 1
    (bundle_copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name}: damaged"):
        Bundle(bundle_copy)


def test_a_changed_graph_is_found(bundle_copy: Path) -> None:
    path = next((bundle_copy / "graphs").iterdir())
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=f"{path.name}: damaged"):
        Bundle(bundle_copy)


@pytest.mark.parametrize("name", ["weights.bin", "tables.safetensors", "golden.safetensors"])
def test_a_missing_file_is_named(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: No such file"):
        Bundle(bundle_copy)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the field at a path such as "levels.0.g_a"; the value DELETE removes it."""

    def change(manifest: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        target: Any = manifest
        for key in parents:
            target = target[int(key) if isinstance(target, list) else key]
        last_key: Any = int(last) if isinstance(target, list) else last
        if value is DELETE:
            del target[last_key]
        else:
            target[last_key] = value

    return change


DELETE = object()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "other", "field format must be 'basic-bundle'"),
        ("format_version", 2, "format_version is 2.*update basic-codec"),
        ("model", [], "model must be an object"),
        ("model.id", "xyz", "field model.id must be text"),
        ("model.name", "much too long a name", "field model.name must be text"),
        ("latent.y_channels", "8", "field latent.y_channels must be an integer"),
        ("latent.z_stride", 60, "field latent.z_stride must be a multiple"),
        ("mean_bits", True, "field mean_bits must be an integer"),
        ("mean_bits", DELETE, "field mean_bits is missing"),
        ("quality_steps", 0, "field quality_steps must be an integer"),
        ("files.weights\0bin", "0" * 64, "must be a plain file name"),
        ("levels", [], "field levels must be a list of at least one"),
        ("levels", [{}] * 9, "field levels has more than 8 levels"),
        ("levels.0.g_a", "0" * 16, r"field levels\[0\].g_a names the graph"),
        ("levels.0.g_a", DELETE, r"field levels\[0\].g_a is missing"),
        ("levels.3.entropy", 2, r"field levels\[3\].entropy must be an integer from 0 to 1"),
        ("levels.0.decode_macs_per_pixel", -1, r"decode_macs_per_pixel must be a number"),
        ("entropy.0.grouping.tile", 3, "tile must be 1, 2 or 4"),
        ("entropy.1.grouping.channel_groups", 3, "must divide the 8 channels"),
        ("entropy.1.stages.2.slots", [[0, 0, 2]], r"stages\[2\].slots must hold"),
        ("entropy.1.stages.2.slots", [[0, 0, 0]], "must cover every slot of y exactly once"),
        ("entropy.1.stages.0.outputs", ["scale", "mean"], "must begin with mean and scale"),
        ("entropy.1.stages.0.inputs", [1], "inputs must be a list of names"),
        ("entropy.0.golden", {}, "golden.graph outputs sha256 is missing"),
        ("graphs", {"x": {}}, "must be named by 16 hex digits"),
    ],
)
def test_a_wrong_field_is_named(bundle_copy: Path, path: str, value: Any, message: str) -> None:
    edit_manifest(bundle_copy, _set(path, value))
    with pytest.raises(BundleError, match=message) as caught:
        Bundle(bundle_copy)
    assert "manifest.json" in str(caught.value) and "\n" not in str(caught.value)


def test_levels_name_graphs_of_the_right_kind(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m["levels"][0].update(g_a=m["levels"][0]["g_s"]))
    with pytest.raises(BundleError, match="must name a graph of g_a, not of g_s"):
        Bundle(bundle_copy)


def test_a_stage_that_reads_what_nothing_gives(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m["entropy"][1]["stages"][0]["inputs"].append("h7.11"))
    with pytest.raises(BundleError, match="stage 0 .* reads 'h7.11', which nothing before it gives"):
        Codec(bundle_copy).load(7)


def test_a_stage_whose_graph_has_other_inputs(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda m: m["entropy"][1]["stages"][1]["inputs"].pop())
    with pytest.raises(BundleError, match="stage 1 .* lists other inputs or outputs than its graph has"):
        Codec(bundle_copy).load(7)


@pytest.mark.parametrize(
    ("name", "replacement", "message"),
    [
        ("gain.encode", None, "tensor 'gain.encode' is missing"),
        ("gain.encode", np.ones((64, 7), np.float32), r"is float32\[64, 7\], not float32\[64, 8\]"),
        ("index_lut", np.zeros(4, np.int32), "is int32"),
        ("index_lut", np.full(4, 64, np.uint8), "must hold rows 0 to 63"),
        ("coder.sizes", np.ones(68, np.uint16), "coder tables: "),
    ],
)
def test_wrong_tables_are_named(bundle_copy: Path, name: str, replacement: np.ndarray | None, message: str) -> None:
    file = bundle_copy / "tables.safetensors"
    tensors = load_file(file)
    if replacement is None:
        del tensors[name]
    else:
        tensors[name] = replacement
    save_file(tensors, file)
    with pytest.raises(BundleError, match=f"tables.safetensors.*{message}"):
        Codec(Bundle(bundle_copy, verify_hashes=False)).load(7)
        Bundle(bundle_copy, verify_hashes=False).encode_gain(0)


def test_tables_that_are_no_safetensors(bundle_copy: Path) -> None:
    (bundle_copy / "tables.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match="tables.safetensors"):
        Codec(Bundle(bundle_copy, verify_hashes=False)).load(7)
