"""Engines: real builds with TensorRT-RTX, which needs no GPU for it; sets, caches, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorrt_rtx as trt
import torch
from built_ahead import Measured
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from basic_export import engines
from basic_export.cli import main
from basic_export.engines import SIZES, build_engines, input_side, largest_side, profile_of, typed_graph
from basic_export.errors import ExportError
from basic_export.export import export_bundle
from basic_export.options import Options
from basic_export.tensorrt import EngineBuilder, Profile
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines.engine_set import PORTABLE, Sizes, find_set, read_engine, set_folder
from basic_runtime.engines.tensorrt_library import TENSORRT, TENSORRT_RTX, message_log
from basic_runtime.errors import EngineError, FileError
from basic_runtime.profile import synthetic_picture
from basic_train.model.presets import PAPER
from basic_train.model.supernet import Supernet

from .models import Exported

TARGETS = ["sm75", "sm86", "sm120"]
VERSION = trt.__version__
ENGINE = ["--engine", "tensorrt-rtx", "--compute-capability", "8.6"]
OPTIONS = [*ENGINE, "--opt-size", "256x128", "--max-size", "512x256"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(item) for item in arguments])


def error_of(result: Result) -> str:
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("basic-export: error: "), result.stderr
    return lines[0]


def silent(step: str, number: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def built(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """All engines of the tiny bundle, in a copy of it, and the command's report."""
    path = tmp_path_factory.mktemp("built") / "tiny-gpu"
    result = run(exported.path, "-o", path, *OPTIONS, "--json")
    assert result.exit_code == 0, result.output
    return path, json.loads(result.stdout)["engines"]


def test_every_graph_is_built_once(built: tuple[Path, dict]) -> None:
    path, report = built
    bundle = Bundle(path)
    assert {item["graph"] for item in report["engines"]} == set(bundle.manifest.graphs)
    assert len(report["engines"]) == len(bundle.manifest.graphs)
    assert {item["target"] for item in report["engines"]} == {"sm86"}
    for item in report["engines"]:
        pixel = bundle.graph(item["graph"]).path == "pixel"
        assert item["precision"] == ("fp16" if pixel else "fp32") and not item["cached"]


def test_a_bundle_with_engines_works_as_before(built: tuple[Path, dict], exported: Exported) -> None:
    picture = np.zeros((70, 50, 3), np.uint8)
    assert Codec(built[0], threads=1).encode(picture) == Codec(exported.path, threads=1).encode(picture)


def test_the_index_says_what_was_built(built: tuple[Path, dict]) -> None:
    path, report = built
    folder, found = find_set(path, "tensorrt-rtx", VERSION, 86)
    assert folder == set_folder(path, "tensorrt-rtx", VERSION, "sm86")
    assert found.precision == "fp16" and found.sizes == Sizes((64, 64), (256, 128), (512, 256))
    for item in report["engines"]:
        engine = found.engines[item["graph"]]
        data = read_engine(folder, item["graph"], engine)
        assert len(data) == engine.bytes == item["bytes"] > 10_000
    g_a = found.engines[Bundle(path).level(0).g_a]
    assert g_a.minimum["x"] == (1, 3, 64, 64) and g_a.optimum["x"] == (1, 3, 128, 256)
    assert g_a.maximum["x"][2] >= 256 and g_a.maximum["x"][3] >= 512


def test_a_second_build_comes_from_the_cache(built: tuple[Path, dict]) -> None:
    path, report = built
    again = run(path, *OPTIONS, "--json")
    items = json.loads(again.stdout)["engines"]["engines"]
    assert all(item["cached"] for item in items) and len(items) == len(report["engines"])
    assert not [path for path in (path / "engines").rglob("*") if path.name.startswith(".")]


def test_a_table_of_what_was_built(exported: Exported, tmp_path: Path) -> None:
    result = run(exported.path, "-o", tmp_path / "new", *OPTIONS)
    assert result.exit_code == 0
    for text in ("Engines for tensorrt-rtx", "sm86", "stage", "fp16", "from cache"):
        assert text in result.stdout


def test_a_checkpoint_and_its_engines_in_one_command(tiny_checkpoint: Path, photo_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    result = run(tiny_checkpoint, "-o", path, "--levels", 1, "--data", photo_folder, "--no-verify", "--json",
                 "--engine", "tensorrt-rtx")  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["model"]["name"] == "tiny-1"
    assert {item["target"] for item in report["engines"]["engines"]} == {PORTABLE}
    assert set(find_set(path, "tensorrt-rtx", VERSION, 89)[1].engines) == set(Bundle(path).manifest.graphs)


def test_all_engines_of_the_bundled_model(tmp_path: Path) -> None:
    """Every level, for three generations of GPUs."""
    path = tmp_path / "lite"
    engines.copy_bundle(Bundle().path, path)
    bundle = Bundle(path)
    report = build_engines(bundle, TENSORRT_RTX, TARGETS, silent)
    assert [engine.target for engine in report.engines] == [t for t in TARGETS for _ in bundle.manifest.graphs]


@pytest.mark.nightly
def test_all_engines_of_preset_paper(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Supernet(PAPER).eval()
    export_bundle(net, tmp_path / "paper", Options("paper-0", verify=False))
    bundle = Bundle(tmp_path / "paper")
    report = build_engines(bundle, TENSORRT_RTX, TARGETS, silent)
    assert len(report.engines) == 3 * len(bundle.manifest.graphs)


# --- one graph -------------------------------------------------------------------------------------------------------


@pytest.fixture
def builder(tmp_path: Path) -> EngineBuilder:
    return EngineBuilder(TENSORRT_RTX, "sm89", tmp_path / "timings")


def graph_of(bundle: Bundle, transform: str) -> tuple[onnx.ModelProto, Profile]:
    spec = next(spec for spec in bundle.manifest.graphs.values() if spec.transform == transform)
    model = typed_graph(bundle, spec, "fp16")
    return model, profile_of(bundle, spec, model, SIZES)


@pytest.mark.parametrize("transform", ["g_a", "h_a", "h_s", "stage", "g_s"])
def test_flags_target_and_profile(exported: Exported, builder: EngineBuilder, transform: str) -> None:
    model, profile = graph_of(Bundle(exported.path), transform)
    network, config = builder.network(model, transform), builder.config(profile)
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert [config.get_compute_capability(i) for i in range(config.num_compute_capabilities)] == [
        trt.ComputeCapability.SM89
    ]
    assert config.num_optimization_profiles == 1
    floats = {trt.DataType.FLOAT, trt.DataType.HALF}
    kinds = {network.get_layer(i).get_output(0).dtype for i in range(network.num_layers)}
    entropy = transform in ("h_s", "stage")
    assert (trt.DataType.HALF in kinds) is not entropy and kinds & floats
    outputs = {network.get_output(i).name: network.get_output(i).dtype for i in range(network.num_outputs)}
    if transform == "stage":
        assert outputs["index"] == outputs["mean.int16"] == trt.DataType.UINT8
    assert {outputs[value.name] for value in model.graph.output if "." not in value.name} <= {
        trt.DataType.FLOAT, trt.DataType.UINT8,
    }  # fmt: skip


def test_an_operator_that_the_library_refuses_is_named(builder: EngineBuilder) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 1, 8, 8])
    w = helper.make_tensor("w", TensorProto.UINT8, [1, 1, 1, 1], [1])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1, 8, 8])
    graph = helper.make_graph([helper.make_node("ConvInteger", ["x", "w"], ["y"])], "g", [x], [y], [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(ExportError, match="tensorrt-rtx .* refuses graph odd: .*"):
        builder.build(model, "odd", Profile({}, {}, {}))


def test_a_profile_that_makes_no_sense(exported: Exported, builder: EngineBuilder) -> None:
    model, profile = graph_of(Bundle(exported.path), "h_s")
    with pytest.raises((ExportError, ValueError)):
        builder.build(model, "upside down", Profile(profile.maximum, profile.optimum, profile.minimum))


# --- refusals --------------------------------------------------------------------------------------------------------


def test_capabilities_without_a_target() -> None:
    targets, notices = engines.choose_targets(TENSORRT_RTX, (75, 86, 90, 130, 120))
    assert targets == ["sm75", "sm86", PORTABLE, "sm120"]
    assert len(notices) == 2 and "does not run on compute capability 9.0: left out" in notices[0]
    assert "no target sm130: sm80+ is built instead" in notices[1]
    assert engines.choose_targets(TENSORRT_RTX, ()) == ([PORTABLE], [])
    with pytest.raises(ExportError, match="cannot build for sm70 here, but for sm75, sm80, .*: choose others with"):
        engines.choose_targets(TENSORRT_RTX, (70,))
    with pytest.raises(ExportError, match="no engines to build: .* does not run on compute capability 10.3"):
        engines.choose_targets(TENSORRT_RTX, (103,))


def test_a_refusal_begins_with_its_cause() -> None:
    """The library complains twice: of what is wrong, and then of what it could not do."""
    log = message_log(trt)
    assert trt.Runtime(log).deserialize_cuda_engine(b"no engine" * 99) is None
    assert "Serialization assertion" in log.taken().split("; ")[0]
    assert log.taken() == "it gives no reason"


def test_a_missing_library_is_named() -> None:
    if TENSORRT.installed:
        pytest.fail("this test needs an environment without the classic TensorRT")
    assert "pip install '.[tensorrt]' in the sources" in error_of(run("lite-11", "-o", "x", "--engine", "tensorrt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "tensorrt-rtx"], "lite-11 is the installed package's: name a copy with -o"),
        (["-o", "x"], "is a bundle already: add --engine"),
        (["-o", "x", "--precision", "fp32"], "--precision is about engines: add --engine"),
        (["-o", "x", "--engine", "tensorrt-rtx", "--levels", "2"], "--levels is about exporting a checkpoint"),
        (["-o", "x", "--engine", "tensorrt-rtx", "--compute-capability", "8.66"], "no list of compute capabilities"),
        (["-o", "x", "--engine", "tensorrt-rtx", "--max-size", "700x700"], "must not decrease"),
        (["-o", "x", "--engine", "tensorrt-rtx", "--min-size", "256x256"], "golden vectors' 128x128 pixels"),
    ],
)
def test_options_that_contradict(options: list[str], message: str) -> None:
    result = run("lite-11", *options)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split())


def test_an_output_that_exists_stays(exported: Exported, tmp_path: Path) -> None:
    message = error_of(run(exported.path, "-o", tmp_path, "--engine", "tensorrt-rtx"))
    assert f"{tmp_path}: exists already" in message and not list(tmp_path.iterdir())


def test_a_failed_build_leaves_nothing(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(exported.path, path)
    bundle = Bundle(path)
    graph = bundle.graph_path(next(iter(bundle.manifest.graphs)))
    graph.write_bytes(graph.read_bytes()[:-40])
    assert "damaged" in error_of(run(path, "--engine", "tensorrt-rtx"))
    assert not (path / "engines").exists()


def test_a_bundle_that_cannot_be_written(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(exported.path, path)
    (path / "engines").write_text("a file where the folder would be")
    with pytest.raises(FileError, match="bundle/engines/.*: cannot be written .*; name a new bundle with -o"):
        build_engines(Bundle(path), TENSORRT_RTX, ["sm86"], silent)


def test_the_cache_key_covers_all_that_an_engine_depends_on(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    stage, g_s = bundle.graph(bundle.entropy(0).stages[1].graph), bundle.graph(bundle.level(7).g_s)

    def key(target: str = "sm86", precision: str = "fp16", sizes: Sizes = SIZES, spec=g_s) -> str:
        model = onnx.load(bundle.graph_path(spec.id), load_external_data=False)
        return engines.cache_key(bundle, spec, TENSORRT_RTX, target, precision, profile_of(bundle, spec, model, sizes))

    small = Sizes((64, 64), (64, 64), (256, 256))
    keys = [key(), key("sm89"), key(precision="fp32"), key(spec=stage), key(sizes=small)]
    assert len(set(keys)) == len(keys) and key() == keys[0]


def test_a_damaged_engine_is_refused(built: tuple[Path, dict], tmp_path: Path) -> None:
    path = tmp_path / "copy"
    shutil.copytree(built[0], path)
    folder, found = find_set(path, "tensorrt-rtx", VERSION, 86)
    graph, described = next(iter(found.engines.items()))
    file = folder / f"{graph}.engine"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EngineError, match=f"{graph}.engine: damaged, its sha256 is not the index's"):
        read_engine(folder, graph, described)


def test_the_command_builds_for_the_sizes_that_python_does() -> None:
    defaults = {parameter.name: parameter.default for parameter in main.params}
    texts = [defaults[name] for name in ("min_size", "opt_size", "max_size")]
    assert texts == [f"{width}x{height}" for width, height in (SIZES.smallest, SIZES.typical, SIZES.largest)]


@pytest.mark.parametrize("shipped", [False, True])
def test_no_tile_of_any_picture_is_larger_than_its_engine(shipped: bool, exported: Exported) -> None:
    """Engines are built for `largest_side` of the tile they are said to take."""
    bundle, backend = Bundle(None if shipped else exported.path), Measured(1)
    codec, manifest = Codec(bundle, backend), bundle.manifest
    for height, width in ((1, 1), (64, 65), (191, 193), (330, 200), (130, 1200), (900, 70)):
        codec.decode(codec.encode(synthetic_picture(width, height), level=0))
    assert {manifest.graphs[graph].transform for graph in backend.sides} == {"g_a", "h_a", "h_s", "stage", "g_s"}
    for graph, sides in backend.sides.items():
        spec = manifest.graphs[graph]
        if spec.reach is not None:  # others run on whole pictures
            assert input_side(manifest, spec, 1) <= min(sides) and max(sides) <= largest_side(manifest, spec, 192)
