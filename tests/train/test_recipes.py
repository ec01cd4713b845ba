"""Recipes: their files, and a few real steps of each on small widths."""

import json
import tomllib
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from small_models import small

from basic_train import checkpoint, recipes
from basic_train.model.presets import PRESETS
from basic_train.objective import OBJECTIVES
from basic_train.recipe import Recipe
from basic_train.recipes import RecipeError
from basic_train.train import LOG_FILE, MODEL_FILE, Trainer, TrainingError


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_trains_and_its_checkpoint_loads(name, photos, tmp_path):
    recipe = recipes.load(name).recipe
    crop = 192 if recipe.distortion == "ms-ssim" else 64
    recipe = replace(recipe, model=small(PRESETS[recipe.preset]), steps=3, crop=crop, batch=2, held_out=1)
    trainer = Trainer(recipe, tmp_path, photos, report=lambda line: None)
    before = {name: value.clone() for name, value in trainer.module.state_dict().items()}
    trainer.run()
    moved = [k for k, v in trainer.module.state_dict().items() if not torch.equal(v, before[k])]
    assert {k.split(".")[1] for k in moved} >= {"g_a", "h_a", "h_s", "g_s", "z_prior", "gains"}
    net, history = checkpoint.load(tmp_path / MODEL_FILE)
    assert Recipe.from_json(history["recipe"]) == recipe
    assert net.config.preset == recipe.preset and max(net.config.widths) <= 56
    record = json.loads((tmp_path / LOG_FILE).read_text())
    assert all(np.isfinite(list(row.values())).all() for row in record["held_out"])


def test_every_preset_has_a_recipe_and_every_recipe_its_parts():
    files = [recipes.load(name) for name in recipes.names()]
    assert {file.recipe.preset for file in files} == set(PRESETS)
    assert all(file.recipe.objective in OBJECTIVES for file in files)
    assert all(20 < len(file.summary) < 100 for file in files)


def test_lite_is_the_default():
    assert recipes.load("lite").recipe == Recipe()


@pytest.mark.parametrize("name", recipes.names())
def test_a_printed_recipe_is_a_file_of_the_same(name, tmp_path):
    file = recipes.load(name)
    changed = replace(file, recipe=replace(file.recipe, model=small(PRESETS[file.recipe.preset]), decay=1e-6))
    for which in (file, changed):
        path = tmp_path / "mine.toml"
        path.write_text(recipes.to_toml(which))
        again = recipes.load(str(path))
        assert again.recipe == which.recipe and again.summary == which.summary


def test_any_text_and_number_is_printed_as_toml(tmp_path):
    """Emoji were written as two escapes, and infinity as Python does: neither is TOML."""
    recipe = Recipe(preset="tiny", model={"lambda_max": float("inf"), "preset": 'a\u007f\t"\\'})
    path = tmp_path / "mine.toml"
    path.write_text(recipes.to_toml(recipes.RecipeFile("mine", "fast \U0001f680 crème", recipe)), encoding="utf-8")
    again = recipes.load(str(path))
    assert again.recipe == recipe and again.summary == "fast \U0001f680 crème"


def test_a_file_of_the_user_changes_fields_and_the_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('preset = "tiny"\nlearning_rate = 1\nsteps = 5\n[model]\nlambda_min = 0.01\n')
    recipe = recipes.load(str(path)).recipe
    assert recipe == Recipe(preset="tiny", learning_rate=1.0, steps=5, model={"lambda_min": 0.01})
    assert recipe.learning_rate.__class__ is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 1", "unknown key 'learning_rat', did you mean 'learning_rate'"),
        ("zzz = 1", "unknown key 'zzz'$"),
        ("steps = 1.5", "steps=1.5: must be a whole number"),
        ("gamma = 1", "gamma=1: must be true or false"),
        ("batch = 0", "batch=0: must be more than 0"),
        ("save_minutes = -1", "save_minutes=-1.0: must not be less than 0"),
        ("save_minutes = nan", "save_minutes=nan: must not be less than 0"),
        ("minutes = inf", "minutes=inf: must be finite"),
        (f"clip = 1{400 * '0'}", "must be finite"),
        ('distortion = "ssim"', "distortion=ssim: must be one of mse, ms-ssim"),
        ('distortion = "ms-ssim"\ncrop = 128', "MS-SSIM needs crops of at least 192"),
        ("distillation = 3.0", "distillation=3.0: is of --objective distillation, not random-widths"),
        ('optimizer = "adam"\nmuon_rate = 0.02', "muon_rate=0.02: is of --optimizer muon, not adam"),
        ("steps = ", "not a readable recipe"),
    ],
)
def test_wrong_files_are_one_line_errors(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        recipes.load(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_unknown_recipes_and_missing_files_are_named(tmp_path):
    with pytest.raises(RecipeError, match=r"unknown recipe 'papper', did you mean 'paper'\?"):
        recipes.load("papper")
    with pytest.raises(RecipeError, match="No such file"):
        recipes.load(str(tmp_path / "no.toml"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_chanels": 8}, "unknown field 'y_chanels'; did you mean 'y_channels'"),
        ({"widths": [16, 24]}, "as many values as `widths`"),
        ({"grouping_name": "spiral"}, "spiral"),
        ({"context": "none"}, "unknown context 'none'"),
        ({"latents": [8, 12, 16]}, "need backbone hyperprior"),
        ({"backbone": "vgg"}, "unknown backbone 'vgg'"),
    ],
)
def test_impossible_models_are_refused(tmp_path, photos, changes, message):
    with pytest.raises(TrainingError, match=message):
        Trainer(Recipe(preset="tiny", model=changes), tmp_path, photos)


def test_the_model_of_a_run_stays(tmp_path, photos):
    recipe = Recipe(preset="tiny", steps=1, crop=64, batch=1, model={"grouping_name": "checkerboard"})
    Trainer(recipe, tmp_path, photos, report=lambda line: None).run()
    assert checkpoint.read_header(tmp_path / MODEL_FILE)[0].grouping_map().stages == 2
    with pytest.raises(checkpoint.CheckpointError, match="cannot be changed"):
        Trainer(replace(recipe, model={}), tmp_path, photos)


def test_recipe_files_hold_only_what_differs_from_the_default():
    default = asdict(Recipe())
    for name in recipes.names():
        values = tomllib.loads((recipes.FOLDER / f"{name}.toml").read_text())
        same = [key for key, value in values.items() if key in default and value == default[key]]
        assert same in ([], ["preset"]), name
