"""Units taken out of the g_a of a bundle that is there already: what files decode to stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from basic_export.bundle import earlier_models
from basic_export.photos import bundled_photo
from basic_export.upgrade import main
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_train import checkpoint
from basic_train.model import units
from basic_train.model.supernet import Supernet

from .models import Exported

LAYER = "g_a.body.layers.3.body.layers.3"


@pytest.fixture
def lean(exported: Exported, tmp_path: Path) -> Path:
    return shutil.copytree(exported.path, tmp_path / "lean")


def upgrade(lean: Path, tiny_checkpoint: Path, photo_folder: Path) -> tuple[int, str]:
    arguments = [str(lean), "--checkpoint", str(tiny_checkpoint), "--photos", str(photo_folder)]
    done = CliRunner().invoke(main, arguments)
    return done.exit_code, done.output


def test_a_leaner_analysis_keeps_the_model_and_what_files_decode_to(
    exported: Exported, lean: Path, tiny_checkpoint: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stirred = units.stirred

    def without_a_layer(net: Supernet, *arguments: object) -> dict[str, torch.Tensor]:
        return stirred(net, *arguments) | {LAYER: torch.zeros(16, dtype=torch.bool)}

    monkeypatch.setattr(units, "stirred", without_a_layer)
    manifest = json.loads((lean / "manifest.json").read_text())
    manifest["model"]["earlier"] = earlier_models(manifest | {"model": {"id": "01234567"}}, filtered=False)
    (lean / "manifest.json").write_text(json.dumps(manifest))
    status, output = upgrade(lean, tiny_checkpoint, photo_folder)
    assert status == 0 and "lean: 32 hidden units of g_a left out" in output
    whole, less = Bundle(exported.path), Bundle(lean)
    assert (less.name, less.model_id) == (whole.name, whole.model_id)
    assert less.manifest.earlier["01234567"].synthesis == tuple(level.g_s for level in less.manifest.levels)
    assert (less.path / "weights.bin").stat().st_size < (whole.path / "weights.bin").stat().st_size
    for before, after in zip(whole.manifest.levels, less.manifest.levels, strict=True):
        assert after.encode_macs_per_pixel < before.encode_macs_per_pixel
        assert after.decode_macs_per_pixel == before.decode_macs_per_pixel
        assert less.graph(after.g_s).formats == whole.graph(before.g_s).formats
        assert less.graph(after.g_s).post_filter == whole.graph(before.g_s).post_filter
        assert less.graph(after.g_a).formats is not None and less.graph(after.g_a).parts is not None
        assert less.graph(after.g_s).gradient is not None
    pixels = bundled_photo("chelsea")[:130, :200]
    codecs = [Codec(bundle, threads=1) for bundle in (whole, less)]
    assert all(check.error is None for check in codecs[1].verify())
    for level in (0, 7):
        files = [codec.encode(pixels, quality=70, level=level) for codec in codecs]
        assert files[0] != files[1]  # as the layer did something
        for data in files:
            np.testing.assert_array_equal(*(codec.decode(data) for codec in codecs))


def test_a_net_with_no_idle_units_changes_nothing(
    exported: Exported, lean: Path, tiny_checkpoint: Path, photo_folder: Path
) -> None:
    status, output = upgrade(lean, tiny_checkpoint, photo_folder)
    assert status == 0 and "lean: 0 hidden units" in output
    manifests = [json.loads((path / "manifest.json").read_text()) for path in (exported.path, lean)]
    assert manifests[0] == manifests[1]


def test_another_checkpoint_is_refused(
    lean: Path, tiny_net: Supernet, photo_folder: Path, tmp_path: Path
) -> None:
    config = tiny_net.config.changed({"latent_blocks": 2})
    other = Supernet(config)
    checkpoint.save(tmp_path / "other.safetensors", other.state_dict(), config, {})
    before = (lean / "manifest.json").read_bytes()
    status, output = upgrade(lean, tmp_path / "other.safetensors", photo_folder)
    assert status == 1 and "name the checkpoint that it was exported from" in output
    assert (lean / "manifest.json").read_bytes() == before


def test_a_checkpoint_of_another_training_is_refused(
    lean: Path, tiny_net: Supernet, photo_folder: Path, tmp_path: Path
) -> None:
    weights = tiny_net.state_dict()
    weights |= {name: value * 1.05 for name, value in weights.items() if name.startswith("gains.")}
    checkpoint.save(tmp_path / "other.safetensors", weights, tiny_net.config, {})
    before = (lean / "manifest.json").read_bytes()
    status, output = upgrade(lean, tmp_path / "other.safetensors", photo_folder)
    assert status == 1 and "of another training: name the checkpoint that it was exported from" in output
    assert (lean / "manifest.json").read_bytes() == before

