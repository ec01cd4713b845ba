"""The loop on the tiny preset: schedule, resume, checkpoints, what stops it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from basic_runtime.errors import ImageError
from basic_train import checkpoint
from basic_train.checkpoint import CheckpointError
from basic_train.losses import lambda_of_quality, rate_distortion
from basic_train.model.presets import LITE, TINY
from basic_train.model.supernet import Supernet, TrainOutput
from basic_train.objective import random_widths
from basic_train.recipe import Recipe
from basic_train.train import (
    LOG_FILE,
    MODEL_FILE,
    STATE_FILE,
    Trainer,
    TrainingError,
    stored_run,
)

RECIPE = Recipe(preset="tiny", steps=6, crop=64, batch=2, warmup_steps=2, save_minutes=1e6)


def train(folder: Path, photos: Path, recipe: Recipe = RECIPE, stop_at: int | None = None) -> Trainer:
    trainer = Trainer(recipe, folder, photos, report=lambda line: None)
    trainer.run(lambda progress: trainer.stop() if progress.step == stop_at else None)
    return trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("run")
    return train(folder, photos)


def test_learning_rate_rises_by_steps_and_falls_by_minutes():
    recipe = Recipe(minutes=100, warmup_steps=4, decay=0.5)
    assert [recipe.rate_factor(step, 0) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1, 1]
    assert [recipe.rate_factor(9, minutes) for minutes in (50, 75, 100, 101)] == [1, 0.5, 0, 0]


def test_learning_rate_falls_by_steps_where_steps_are_given():
    recipe = Recipe(minutes=1, steps=100, warmup_steps=1, decay=0.5)
    assert [recipe.rate_factor(step, 1e9) for step in (0, 50, 75, 100)] == [1, 1, 0.5, 0]


@pytest.mark.parametrize(
    "wrong", [{"crop": 100}, {"crop": 0}, {"batch": 0}, {"minutes": 0.0}, {"full_share": 1.5}]
)
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_recipes_of_older_and_newer_files_are_read():
    assert Recipe.from_json({"batch": 3, "colour": "blue"}) == Recipe(batch=3)


def test_each_transform_draws_its_own_width():
    rng = np.random.default_rng(0)
    draws = np.array([random_widths(LITE, 0.5, rng) for _ in range(4000)])
    assert draws.min() == 0 and draws.max() == 4
    np.testing.assert_allclose((draws == 4).mean(0), 0.5, atol=0.03)
    for index in range(4):
        np.testing.assert_allclose((draws == index).mean(0), 0.125, atol=0.03)
    assert abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.06


def test_loss_is_rate_plus_weighted_distortion():
    x = torch.zeros(2, 3, 64, 64)
    output = TrainOutput(torch.tensor([4096.0, 0.0]), torch.tensor([0.0, 2048.0]), x + 0.1)
    result = rate_distortion(output, x, torch.full((2,), 0.013))
    torch.testing.assert_close(result.bpp, torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(result.loss, torch.tensor(0.75 + 0.013 * 255**2 * 0.01))
    ends = lambda_of_quality(torch.tensor([0.0, 0.5, 1.0]), 0.001, 0.1)
    torch.testing.assert_close(ends, torch.tensor([0.001, 0.01, 0.1]))


def test_stop_and_resume_equals_an_uninterrupted_run(tmp_path, photos, finished):
    assert train(tmp_path, photos, stop_at=3).step == 3
    resumed = train(tmp_path, photos)
    assert resumed.step == finished.step == 6 and resumed.patches == 12
    ours, theirs = (t.module.state_dict() for t in (resumed, finished))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
        assert torch.equal(resumed.average.weights[name], finished.average.weights[name]), name


def test_a_new_run_may_start_from_a_checkpoint(tmp_path, photos, finished):
    start = finished.folder / MODEL_FILE
    trainer = Trainer(RECIPE, tmp_path / "new", photos, report=lambda line: None, start_from=start)
    for name, value in checkpoint.load(start)[0].state_dict().items():
        assert torch.equal(trainer.module.net.state_dict()[name], value), name
    trainer.run(lambda progress: trainer.stop())
    assert trainer.step == 1
    history = checkpoint.read_header(tmp_path / "new" / MODEL_FILE)[1]
    assert history["step"] == 1 and history["previous"]["step"] == 6
    with pytest.raises(CheckpointError, match="are of preset 'tiny', not 'lite'"):
        Trainer(replace(RECIPE, preset="lite"), tmp_path / "other", photos, print, start)


def test_a_save_in_the_middle_changes_nothing(tmp_path, photos, finished):
    saving = train(tmp_path, photos, replace(RECIPE, save_minutes=0.0))
    assert len((tmp_path / LOG_FILE).read_text().splitlines()) == 6
    for name, value in finished.average.weights.items():
        assert torch.equal(saving.average.weights[name], value), name


def test_a_run_writes_weights_state_log_and_tensorboard(finished):
    folder = finished.folder
    assert {MODEL_FILE, STATE_FILE, LOG_FILE} <= {p.name for p in folder.iterdir()}
    assert [
        p for p in folder.iterdir() if p.name.startswith("events.out.tfevents") and p.stat().st_size > 100
    ]
    record = json.loads((folder / LOG_FILE).read_text())
    assert record["step"] == 6 and record["patches"] == 12
    assert {(row["width"], row["quality"]) for row in record["held_out"]} == {
        (width, quality) for width in (32, 16) for quality in (0.0, 0.33, 0.67, 1.0)
    }
    assert all(np.isfinite(list(row.values())).all() for row in record["held_out"])


def test_the_averaged_weights_are_saved_with_configuration_and_history(finished):
    net, history = checkpoint.load(finished.folder / MODEL_FILE)
    assert not net.training and net.config == TINY
    assert history["step"] == 6 and Recipe.from_json(history["recipe"]) == RECIPE
    for name, value in net.state_dict().items():
        assert torch.equal(value, finished.average.weights[f"net.{name}"])
    assert any(not torch.equal(v, finished.module.net.state_dict()[k]) for k, v in net.state_dict().items())


def test_training_lowers_the_loss(tmp_path, photos):
    recipe = replace(RECIPE, steps=60, batch=4, warmup_steps=5, learning_rate=3e-3)
    losses = []
    Trainer(recipe, tmp_path, photos, report=lambda line: None).run(lambda p: losses.append(p.loss))
    assert np.mean(losses[-15:]) < 0.5 * np.mean(losses[:15])


def test_a_complete_run_does_nothing_more(finished, photos):
    lines = []
    trainer = Trainer(RECIPE, finished.folder, photos, report=lines.append)
    trainer.run(lambda progress: pytest.fail("a step was made"))
    assert "this run is complete" in lines[-1]


def test_another_preset_in_the_folder_is_refused(finished, photos):
    with pytest.raises(CheckpointError, match="are of preset 'tiny', not 'lite'"):
        Trainer(Recipe(preset="lite"), finished.folder, photos)


def test_unknown_presets_are_refused(tmp_path, photos):
    with pytest.raises(TrainingError, match="unknown preset 'huge'; known: lite, tiny, paper"):
        Trainer(Recipe(preset="huge"), tmp_path, photos)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_save(tmp_path, photos):
    train(tmp_path, photos, stop_at=2)
    before = (tmp_path / STATE_FILE).read_bytes()
    with pytest.raises(TrainingError, match="resume with a lower --learning-rate"):
        train(tmp_path, photos, replace(RECIPE, steps=1000, learning_rate=1e30))
    assert (tmp_path / STATE_FILE).read_bytes() == before


def test_too_few_photos_are_refused(tmp_path, photos):
    Image.new("RGB", (80, 80)).save(tmp_path / "one.png")
    with pytest.raises(ImageError, match="0 usable photos to train on and 1 to hold out"):
        Trainer(RECIPE, tmp_path / "run", tmp_path)


def test_the_stored_run_of_a_folder(tmp_path, finished):
    assert stored_run(tmp_path) is None
    assert stored_run(finished.folder) == (TINY, RECIPE)


def test_damaged_checkpoints_are_refused(tmp_path, finished):
    whole = (finished.folder / MODEL_FILE).read_bytes()
    for name, data in {
        "empty": b"",
        "noise": b"\xff" * 1000,
        "short": whole[: len(whole) // 2],
        "header": whole.replace(b"hyper_widths", b"hyper_widthz", 1),
        "number": whole.replace(b'\\"y_channels\\": 16', b'\\"y_channels\\": 32', 1),
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=name):
            checkpoint.load(path)
    with pytest.raises(CheckpointError, match="missing"):
        checkpoint.load(tmp_path / "missing")


def test_other_safetensors_and_weights_that_do_not_fit_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="not a BaSIC checkpoint"):
        checkpoint.load(tmp_path / "other")
    weights = Supernet(TINY).state_dict()
    weights.pop("context.context_bias")
    checkpoint.save(tmp_path / "part", weights, TINY, {})
    with pytest.raises(CheckpointError, match="weights do not fit"):
        checkpoint.load(tmp_path / "part")


@pytest.mark.parametrize("data", [b"", b"noise" * 100])
def test_damaged_states_are_refused(tmp_path, photos, data):
    train(tmp_path, photos, stop_at=1)
    (tmp_path / STATE_FILE).write_bytes(data)
    with pytest.raises(CheckpointError, match="not a readable training state"):
        Trainer(RECIPE, tmp_path, photos)


def test_a_state_of_another_model_is_refused(tmp_path, photos):
    train(tmp_path, photos, stop_at=1)
    state = checkpoint.load_state(tmp_path / STATE_FILE)
    state["weights"].pop("net.context.context_bias")
    checkpoint.save_state(tmp_path / STATE_FILE, state)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        Trainer(RECIPE, tmp_path, photos)
