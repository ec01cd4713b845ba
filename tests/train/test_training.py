"""The loop on the tiny preset: schedule, resume, checkpoints, what stops it."""

import json
import resource
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_models import small

from basic_runtime.errors import FileError, ImageError
from basic_train import checkpoint
from basic_train.checkpoint import CheckpointError
from basic_train.data import CropStream, PhotoFiles, list_photos, split
from basic_train.model import units
from basic_train.model.linear_start import EVENNESS
from basic_train.model.presets import PAPER, TINY
from basic_train.model.slimmable import SlimConvTranspose2d
from basic_train.model.supernet import Supernet
from basic_train.objective import OBJECTIVES, Objective
from basic_train.optimise import optimizers
from basic_train.pages import draw_pages
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
    "wrong",
    [{"crop": 100}, {"crop": 0}, {"batch": 0}, {"minutes": 0.0}, {"full_share": 1.5}, {"pages": 0.1, "crop": 832}],
)
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        Recipe(**wrong)


def test_recipes_of_older_and_newer_files_are_read():
    assert Recipe.from_json({"batch": 3, "colour": "blue"}) == Recipe(batch=3)
    assert Recipe.from_json({"validation_photos": 5}) == Recipe(held_out=5)


def test_dead_units_may_be_reinitialised_and_pages_among_the_crops(tmp_path, photos, finished, monkeypatch):
    monkeypatch.setattr("basic_train.pages.PAGES", 4)
    net, _ = checkpoint.load(finished.folder / MODEL_FILE)
    layer = units.layers(net)["g_a.body.layers.3.body.layers.3"]
    with torch.no_grad():
        layer.into.bias[:] = -30
    config = finished.config
    checkpoint.save(tmp_path / "idle.safetensors", net.state_dict(), config, {})
    messages = []
    recipe = replace(RECIPE, revive=4, pages=1.0)
    trainer = Trainer(recipe, tmp_path / "new", photos, messages.append, tmp_path / "idle.safetensors")
    assert any("13 dead hidden units reinitialised" in message for message in messages)
    started = units.layers(trainer.module.net)["g_a.body.layers.3.body.layers.3"]
    assert (started.into.bias[:4] == -30).all() and (started.into.bias[4:] == 0).all()
    pages = {page.tobytes() for page in draw_pages(recipe.seed, 4)}
    assert {page.tobytes() for page in trainer.crops.photos.pages} == pages
    assert "4 pages drawn, from which 100% of the crops come" in messages
    trainer.run()
    assert trainer.finished
    again = Trainer(replace(recipe, steps=7), tmp_path / "new", photos, messages.append)
    again.run()
    assert sum("dead hidden units" in message for message in messages) == 1
    with pytest.raises(TrainingError, match="name a checkpoint with --start-from"):
        Trainer(replace(RECIPE, revive=0), tmp_path / "none", photos, messages.append)


def test_qualities_may_come_in_steps(tmp_path, photos, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "recorder", Recorder)
    trainer = train(tmp_path, photos, replace(RECIPE, objective="recorder", quality_steps=5, batch=4))
    drawn = torch.cat([quality for _, quality, _ in trainer.module.objective.given])
    assert set(drawn.tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_adam_alone_and_muon_with_transposed_weights():
    net = Supernet(PAPER.changed(small(PAPER)))
    (adam,) = optimizers(net, Recipe(optimizer="adam"))
    assert len(adam.param_groups[0]["params"]) == len(list(net.parameters()))
    muon, adam = optimizers(net, Recipe())
    transposed = [m.weight for m in net.modules() if isinstance(m, SlimConvTranspose2d)]
    assert len(transposed) == 6
    assert {id(p) for p in muon.param_groups[1]["params"]} == {id(w) for w in transposed}
    assert muon.param_groups[1]["transposed"] and not muon.param_groups[0]["transposed"]
    net.requires_grad_(False)
    assert optimizers(net, Recipe()) == []


def test_layers_at_latents_of_unequal_size_have_factors():
    net = Supernet(TINY)
    sizes = torch.linspace(40, 1, TINY.y_channels)
    with torch.no_grad():
        net.g_s.body.layers[0].weight.copy_(sizes[None, :, None, None] ** -EVENNESS)
    muon, _ = optimizers(net, Recipe())
    found = {id(g["params"][0]): g["factors"] for g in muon.param_groups if g["factors"] is not None}
    context = net.context
    assert found.keys() == {id(w) for w in (net.h_a.layers[0].weight, context.context_weight, context.merge_out.weight)}
    torch.testing.assert_close(found[id(context.context_weight)].flatten(), 1 / sizes)
    torch.testing.assert_close(found[id(context.merge_out.weight)][0::2, 0], sizes)
    assert (found[id(context.merge_out.weight)][1::2] == 1).all()


def test_a_linear_path_without_a_context_model_trains(tmp_path, photos):
    model = {"context": "scale-only", "priors": [16, 16, 16], "contexts": []}
    trainer = train(tmp_path, photos, replace(RECIPE, model=model, steps=2))
    net = trainer.module.net
    found = {id(p) for g in trainer.optimizers[0].param_groups if g["factors"] is not None for p in g["params"]}
    assert trainer.finished and found == {id(net.h_a.layers[0].weight)}


class Recorder(Objective):
    """An objective with a module of its own, which keeps what it is given."""

    def __init__(self, config, recipe):
        super().__init__(config, recipe)
        self.factor = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.given = []

    def forward(self, net, x, quality, rng):
        self.given.append((x, quality, rng.random()))
        self.calls += 1
        result = self.measure(net(x, quality, net.full), x, quality)
        result.loss = result.loss * self.factor
        return result

    def stored(self, net_weights, own_weights, config):
        assert own_weights["calls"].item() == len(self.given) and own_weights["factor"] != 1
        return net_weights, replace(config, lambda_max=0.1)


def test_an_objective_of_ones_own(tmp_path, photos, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "recorder", Recorder)
    recipe = replace(RECIPE, objective="recorder", accumulate=2, model={"linear_path": False})
    config = replace(TINY, linear_path=False)
    trainer = train(tmp_path, photos, recipe)
    objective, net = trainer.module.objective, trainer.module.net
    assert len(objective.given) == 12
    stream = CropStream(PhotoFiles(split(list_photos(photos))[0], 64, 2**30), 64, 2, RECIPE.seed)
    for number, (x, quality, draw) in enumerate(objective.given):
        step, part = divmod(number, 2)
        assert torch.equal(x, stream.batch(step)[part : part + 1])  # in full precision
        assert quality.dtype == torch.float32 and draw == objective.given[2 * step][2]
    assert len({float(quality[0]) for _, quality, _ in objective.given}) == 12
    torch.manual_seed(RECIPE.seed)
    start = Supernet(config)
    moved = {k.split(".")[0] for k, v in start.state_dict().items() if not torch.equal(v, net.state_dict()[k])}
    assert moved == {name for name, _ in net.named_children()} - {"alternatives"}
    assert checkpoint.read_header(tmp_path / MODEL_FILE)[0].lambda_max == 0.1
    longer = replace(recipe, steps=7)
    resumed = Trainer(longer, tmp_path, photos, report=lambda line: None)
    assert resumed.config == config and resumed.module.objective.calls == 12
    assert resumed.module.objective.factor == objective.factor


def test_unknown_objectives_are_refused(tmp_path, photos):
    with pytest.raises(TrainingError, match="unknown objective 'magic'; known: random-widths"):
        Trainer(replace(RECIPE, objective="magic"), tmp_path, photos)


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


def test_a_new_run_may_have_more_channels_than_its_start(tmp_path, photos, finished):
    start = finished.folder / MODEL_FILE
    wide = replace(RECIPE, model={"widths": [16, 32, 48], "hyper_widths": [8, 16, 24]})
    trainer = Trainer(wide, tmp_path / "new", photos, report=lambda line: None, start_from=start)
    old, new = checkpoint.load(start)[0], trainer.module.net
    x, gain = torch.rand(2, 3, 64, 64), torch.rand(2, TINY.y_channels, 1, 1)
    y = old.g_a(x, 2, gain)
    for index in (1, 2):  # the old width, and the new one on top of it
        assert torch.allclose(new.g_a(x, index, gain), y, atol=1e-5)
        assert torch.allclose(new.h_a(y, index), old.h_a(y, 2), atol=1e-5)
        assert torch.allclose(new.g_s(y, index, gain), old.g_s(y, 2, gain), atol=1e-5)
    last = new.g_s.body.layers[-2].weight
    assert last.shape[1] == 24 and not last[:, 16:].any()
    trainer.run(lambda progress: trainer.stop() if progress.step == 2 else None)
    assert last[:, 16:].any()
    narrow = replace(RECIPE, model={"widths": [16, 16, 24]})
    with pytest.raises(CheckpointError, match=r"do not fit the model: g_a\.\S+: \S+ \S+ \S+ \S+ does not become"):
        Trainer(narrow, tmp_path / "narrow", photos, print, start)


def test_a_save_in_the_middle_changes_nothing(tmp_path, photos, finished):
    saving = train(tmp_path, photos, replace(RECIPE, save_minutes=0.0))
    assert len((tmp_path / LOG_FILE).read_text().splitlines()) == 6
    for name, value in finished.average.weights.items():
        assert torch.equal(saving.average.weights[name], value), name


def test_a_run_writes_weights_state_log_and_tensorboard(finished):
    folder = finished.folder
    assert {MODEL_FILE, STATE_FILE, LOG_FILE} <= {p.name for p in folder.iterdir()}
    assert [p for p in folder.iterdir() if p.name.startswith("events.out.tfevents") and p.stat().st_size > 100]
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
    changes = {"linear_path": False}  # which begins where others end
    recipe = replace(RECIPE, steps=60, batch=4, warmup_steps=5, learning_rate=3e-3, muon_rate=0.02, model=changes)
    losses = []
    Trainer(recipe, tmp_path, photos, report=lambda line: None).run(lambda p: losses.append(p.loss))
    assert np.mean(losses[-15:]) < 0.5 * np.mean(losses[:15])


def test_a_complete_run_does_nothing_more(finished, photos):
    lines = []
    before = sorted(path.name for path in finished.folder.iterdir())
    trainer = Trainer(RECIPE, finished.folder, photos, report=lines.append)
    trainer.run(lambda progress: pytest.fail("a step was made"))
    assert "this run is complete" in lines[-1]
    assert sorted(path.name for path in finished.folder.iterdir()) == before


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


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_what_diverged_is_not_saved(tmp_path, photos, rate):
    """The step after it was the first to tell."""
    recipe = replace(RECIPE, steps=1000, learning_rate=rate, save_minutes=0.0)
    expected = "nothing was saved yet, start again with a lower --learning-rate or --muon-rate"
    with pytest.raises(TrainingError, match=expected):
        train(tmp_path, photos, recipe)
    assert not (tmp_path / MODEL_FILE).exists() and not (tmp_path / LOG_FILE).exists()
    with pytest.raises(TrainingError, match=r"lower --learning-rate$"):
        train(tmp_path / "adam", photos, replace(recipe, optimizer="adam"))


def test_weights_that_diverged_are_not_loaded(tmp_path, finished):
    net, history = checkpoint.load(finished.folder / MODEL_FILE)
    net.g_s.body.layers[0].weight.data[0, 0] = float("nan")
    checkpoint.save(tmp_path / "broken", net.state_dict(), net.config, history)
    with pytest.raises(CheckpointError, match=r"broken: the weights g_s\.body\.layers\.0\.weight are not finite"):
        checkpoint.load(tmp_path / "broken")


class Exact(Objective):
    """An objective by which pictures have no error."""

    def forward(self, net, x, quality, rng):
        return self.measure(net(x, quality, net.full), x, quality)

    def measure(self, output, x, quality):
        result = super().measure(output, x, quality)
        return replace(result, mse=torch.zeros_like(result.mse))


def test_the_log_has_null_for_what_json_cannot_tell(tmp_path, photos, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "exact", Exact)
    train(tmp_path, photos, replace(RECIPE, objective="exact", steps=1))
    line = (tmp_path / LOG_FILE).read_text()
    assert json.loads(line, parse_constant=pytest.fail)["psnr"] is None
    assert json.loads(line)["held_out"][0]["psnr"] is None


def test_a_second_run_in_a_folder_is_refused(tmp_path, photos):
    first = Trainer(RECIPE, tmp_path, photos, report=lambda line: None)
    with pytest.raises(FileError, match="another process trains in it; wait for its end, or name another --output"):
        Trainer(RECIPE, tmp_path, photos, report=lambda line: None)
    first.run()
    assert Trainer(RECIPE, tmp_path, photos, report=lambda line: None).finished


def test_a_damaged_state_is_one_line(tmp_path):
    path, state = tmp_path / STATE_FILE, {"weights": {"a": torch.arange(20.0)}, "optimizers": [{"lr": 0.1}], "step": 3}
    checkpoint.save_state(path, state)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        with suppress(checkpoint.CheckpointError):  # no other error; what is not read may be damaged
            checkpoint.load_state(path)


def test_a_log_that_cannot_be_written_is_named(tmp_path, photos):
    (tmp_path / LOG_FILE).mkdir()
    with pytest.raises(FileError, match=r"log\.jsonl: cannot be written .*; free space and resume"):
        train(tmp_path, photos)


def test_too_few_photos_are_refused(tmp_path, photos):
    Image.new("RGB", (80, 80)).save(tmp_path / "one.png")
    with pytest.raises(ImageError, match="0 usable photos to train on and 1 to hold out"):
        Trainer(RECIPE, tmp_path / "run", tmp_path)


def test_held_out_photos_that_are_all_too_small_are_named(tmp_path, photos):
    """No crops were stacked: a ValueError."""
    for number, source in enumerate(list_photos(photos)[:2], 1):
        (tmp_path / f"{number}.png").write_bytes(source.read_bytes())
    Image.new("RGB", (50, 80)).save(tmp_path / "0.png")
    lines = []
    with pytest.raises(ImageError, match="2 usable photos to train on and 0 to hold out"):
        Trainer(RECIPE, tmp_path / "run", tmp_path, lines.append)
    assert any("0.png: smaller than 64 pixels" in line for line in lines)


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


@pytest.mark.parametrize(
    ("length", "more", "reason"),
    [(0, b"", "the file is cut short"), (999, b"", "the file is cut short"), (0, b"noise", "")],
)
def test_damaged_states_are_refused(tmp_path, photos, length, more, reason):
    train(tmp_path, photos, stop_at=1)
    state = tmp_path / STATE_FILE
    state.write_bytes(state.read_bytes()[:length] + more * 100)
    expected = rf"not a readable training state \({reason}.*\); --start-from .*{MODEL_FILE} with another --output keeps"
    with pytest.raises(CheckpointError, match=expected):
        Trainer(RECIPE, tmp_path, photos)


def test_a_state_of_another_model_is_refused(tmp_path, photos):
    train(tmp_path, photos, stop_at=1)
    state = checkpoint.load_state(tmp_path / STATE_FILE)
    state["weights"].pop("net.context.context_bias")
    checkpoint.save_state(tmp_path / STATE_FILE, state)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        Trainer(RECIPE, tmp_path, photos)


def test_a_state_that_finds_no_room_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / STATE_FILE
    checkpoint.save_state(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # writing fails, as on a disk that is full
    try:
        with pytest.raises(FileError, match="cannot be written") as caught:
            checkpoint.save_state(path, {"tensor": torch.zeros(1 << 16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value) and checkpoint.load_state(path) == {"step": 1}
    assert [each.name for each in tmp_path.iterdir()] == [STATE_FILE]


def test_a_first_save_that_finds_no_room_leaves_a_folder_to_begin_in(tmp_path: Path, photos: Path) -> None:
    trainer = Trainer(RECIPE, tmp_path, photos, report=lambda line: None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))  # enough for the model, not for the state
    try:
        with pytest.raises(FileError, match="state.pt: cannot be written"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert stored_run(tmp_path) is None
    assert not [each for each in tmp_path.iterdir() if each.suffix in (".safetensors", ".pt", ".tmp")]


def test_a_checkpoint_without_its_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(CheckpointError, match="but not the state.pt of a run to go on with: name another --output"):
        stored_run(tmp_path)
    assert stored_run(tmp_path / "new") is None
