"""Training changes what is not frozen, exports the averaged weights, and goes on where it was interrupted.

An interrupted run ends with the very weights of an uninterrupted one.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from torch import Tensor

from glip.engine.config import SourceConfig, TrainConfig
from glip.engine.sources import read_sources
from glip.engine.trainer import Trainer
from glip.errors import CheckpointError, ConfigError, DataError, GlipError
from glip.models.glip import GlipModel
from glip.predictor import Predictor
from glip.processing import GlipImageProcessor, GlipProcessor
from tests.reference.tiny_models import TINY_TEXT, tiny_model

BERT_VOCABULARY = 30522
LOSSES = {"loss_alignment", "loss_giou", "loss_l1", "loss_centerness"}
SPEED = {"seconds_per_step", "images_per_second", "memory_gb", "seconds_left"}
NOT_RANDOM: dict[str, Any] = {"drop_block": 0.0, "fusion_dropout": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four noisy pictures with a bright square each, lying and upright; one has no box."""
    folder = tmp_path_factory.mktemp("data")
    images, annotations = [], []
    noise = np.random.default_rng(0)
    for number, (height, width) in enumerate([(48, 64), (48, 64), (64, 48), (64, 48)], start=1):
        pixels = noise.integers(0, 80, (height, width, 3), dtype=np.uint8)
        pixels[10:40, 12:42] = 250
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        if number < 4:
            annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [12, 10, 30, 30]})
    categories = [{"id": 1, "name": "square"}, {"id": 2, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def save_start(folder: Path, predictor: Predictor, **changes: Any) -> Path:
    """A tiny network with BERT's vocabulary, ready for training."""
    text = {**TINY_TEXT, "vocab_size": BERT_VOCABULARY}
    tiny_model("csp", top_down=False, text=text, **changes).save_pretrained(folder)
    GlipProcessor(GlipImageProcessor(short_side=64, max_side=96), predictor.processor.tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Path:
    return save_start(tmp_path_factory.mktemp("start"), predictor, **NOT_RANDOM)


@pytest.fixture(scope="module")
def random_start(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Path:
    """The same with dropout of attention and of blocks."""
    return save_start(tmp_path_factory.mktemp("random_start"), predictor, drop_block=0.3, fusion_dropout=0.3)


def config_of(start: Path, data: Path, output: Path, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "start": start,
        "output": output,
        "sources": [{"annotations": data / "train.json", "kind": "detection"}],
        "steps": 4,
        "batch_size": 2,
        "workers": 0,
        "save_every": 2,
        "log_every": 1,
        "augmentation": {"short_sides": [64], "max_side": 96},
        "optimizer": {"learning_rate": 1e-3, "backbone_factor": 1.0},
        "schedule": {"warmup_steps": 2},
    }
    return TrainConfig(**{**settings, **changes})


def train_interrupted(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Train until somebody presses Ctrl-C after so many steps."""
    train_step = Trainer._train_step

    def step_or_stop(self: Trainer, parts: Any) -> Any:
        if self.step == after:
            raise KeyboardInterrupt
        return train_step(self, parts)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            Trainer(config).train()


@pytest.fixture(scope="module")
def trained(start: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run of four steps."""
    trainer = Trainer(config_of(start, data, tmp_path_factory.mktemp("runs") / "deep" / "run"))
    trainer.train()
    return trainer


def logged_losses(trainer: Trainer) -> list[dict[str, float]]:
    """The losses of every step."""
    lines = (trainer.config.output / "log.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name in LOSSES} for line in lines]


# --- a whole run -------------------------------------------------------------------------------------------------


def test_a_run_leaves_checkpoint_log_and_model(trained: Trainer) -> None:
    output = trained.config.output
    assert trained.step == 4
    assert {path.name for path in output.iterdir()} == {"checkpoint-00000004.pt", "log.jsonl", "model"}


def test_the_log_has_every_loss_of_every_step(trained: Trainer) -> None:
    lines = [json.loads(line) for line in (trained.config.output / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(set(line) >= LOSSES | SPEED for line in lines)
    assert all(math.isfinite(line[name]) for line in lines for name in LOSSES)


def test_training_moves_everything_but_what_is_frozen(trained: Trainer, start: Path) -> None:
    before = dict(GlipModel.from_pretrained(start).named_parameters())
    moved = {name for name, parameter in trained.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert not any(name.startswith("text_encoder.") for name in moved)
    assert {name.split(".")[0] for name in moved} == {"backbone", "fpn", "blocks", "head"}


def test_frozen_parts_have_no_gradient_and_no_dropout(trained: Trainer) -> None:
    assert not any(parameter.requires_grad for parameter in trained.model.text_encoder.parameters())
    assert not trained.model.text_encoder.training
    assert trained.model.training


def test_the_exported_model_is_the_average_and_runs(trained: Trainer, data: Path) -> None:
    exported = Predictor.from_pretrained(trained.config.output / "model")
    parameters = dict(exported.model.named_parameters())
    assert trained.average.averages
    for name, average in trained.average.averages.items():
        torch.testing.assert_close(parameters[name].data, average, rtol=0, atol=0)
    own = dict(trained.model.named_parameters())
    assert any(not torch.equal(own[name], parameters[name]) for name in parameters)
    assert exported.processor.image_processor.short_side == 64
    assert len(exported.refer(data / "1.png", "a square")) == 1


def test_a_share_of_the_start_stays_in_the_exported_model_of_an_interrupted_run_too(
    trained: Trainer, start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(start, data, tmp_path / "run", start_share=0.25)
    train_interrupted(config, monkeypatch, after=3)
    Trainer(config).train()
    before = dict(GlipModel.from_pretrained(start).named_parameters())
    for name, parameter in GlipModel.from_pretrained(config.output / "model").named_parameters():
        after = trained.average.averages.get(name, before[name])
        torch.testing.assert_close(parameter, 0.25 * before[name] + 0.75 * after, msg=name)


def test_exporting_leaves_the_trained_weights_in_place(trained: Trainer, tmp_path: Path) -> None:
    before = weights_of(trained)
    trained.export(tmp_path)
    assert_equal(weights_of(trained), before)


def test_a_run_that_is_done_is_done(trained: Trainer) -> None:
    again = Trainer(trained.config)
    assert again.step == 4
    again.train()
    assert again.step == 4
    assert_equal(weights_of(again), weights_of(trained))


# --- interrupted runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [pytest.param(2, id="at a checkpoint"), pytest.param(3, id="after a checkpoint")])
def test_an_interrupted_run_ends_with_the_same_weights(
    trained: Trainer, start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    config = config_of(start, data, tmp_path / "run")
    train_interrupted(config, monkeypatch, after=after)
    resumed = Trainer(config)
    assert resumed.step == 2
    resumed.train()
    assert_equal(weights_of(resumed), weights_of(trained))
    assert_equal(resumed.average.averages, trained.average.averages)
    assert_equal(dict(resumed.model.named_buffers()), dict(trained.model.named_buffers()))


def test_a_run_interrupted_before_its_first_checkpoint_starts_anew(
    trained: Trainer, start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(start, data, tmp_path / "run")
    train_interrupted(config, monkeypatch, after=1)
    resumed = Trainer(config)
    assert resumed.step == 0
    resumed.train()
    assert_equal(weights_of(resumed), weights_of(trained))


def test_with_dropout_too_an_interrupted_run_ends_with_the_same_weights(
    random_start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer(config_of(random_start, data, tmp_path / "whole"))
    torch.manual_seed(1)
    whole.train()
    config = config_of(random_start, data, tmp_path / "parts")
    train_interrupted(config, monkeypatch, after=2)
    resumed = Trainer(config)
    torch.manual_seed(2)  # another process has used other random numbers
    resumed.train()
    assert_equal(weights_of(resumed), weights_of(whole))


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_the_seed_decides(trained: Trainer, start: Path, data: Path, tmp_path: Path, seed: int, same: bool) -> None:
    other = Trainer(config_of(start, data, tmp_path / "run", seed=seed))
    other.train()
    name = "head.box.weight"
    assert torch.equal(weights_of(other)[name], weights_of(trained)[name]) is same


def test_a_loss_that_is_not_finite_stops_the_run_before_it_does_harm(start: Path, data: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(start, data, tmp_path / "run"))
    before = weights_of(trainer)
    trainer.criterion = lambda _output, _targets: {"loss_alignment": torch.tensor(math.nan)}  # type: ignore[assignment]
    with pytest.raises(GlipError, match="lower the learning rate"):
        trainer.train()
    assert_equal(weights_of(trainer), before)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")  # type: ignore[misc]


@pytest.mark.parametrize("content", [{"step": 2}, {"step": 2, "model": {}}], ids=["a step only", "an empty network"])
def test_a_checkpoint_that_lacks_parts_is_refused(
    start: Path, data: Path, tmp_path: Path, content: dict[str, Any]
) -> None:
    torch.save(content, tmp_path / "checkpoint-00000002.pt")
    with pytest.raises(CheckpointError, match="choose another output folder"):
        Trainer(config_of(start, data, tmp_path))


def test_gradients_are_clipped_by_their_global_norm(start: Path, data: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(start, data, tmp_path / "run", steps=1, optimizer={"clip_norm": 1e-3}))
    trainer.train()
    norms = [parameter.grad.norm() for parameter in trainer.model.parameters() if parameter.grad is not None]
    torch.testing.assert_close(torch.stack(norms).norm(), torch.tensor(1e-3), rtol=1e-2, atol=0)


# --- memory and time ---------------------------------------------------------------------------------------------


def test_a_batch_in_two_parts_gives_the_step_of_the_mean_of_their_losses(
    start: Path, data: Path, tmp_path: Path
) -> None:
    """Each part is normalised by its own boxes, as published."""
    halves, by_hand = (
        Trainer(config_of(start, data, tmp_path / name, steps=1, batch_size=4, accumulate=2)) for name in "ab"
    )
    batches = by_hand._batches()
    parts = [next(batches), next(batches)]
    assert [len(part.names) for part in parts] == [2, 2]
    halves._train_step(parts)
    by_hand.tuned.train()
    torch.manual_seed(by_hand.config.seed)  # the text layers' dropout, as the trainer draws it in step 0
    mean = sum(loss for part in parts for loss in by_hand._losses(part).values()) / 2
    assert isinstance(mean, Tensor)
    mean.backward()
    torch.nn.utils.clip_grad_norm_(by_hand.model.parameters(), 1.0)
    expected = gradients_of(by_hand)
    assert len(expected) > 50
    for name, gradient in gradients_of(halves).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7, msg=name)


def gradients_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("batch_size", "accumulate"), [(3, 2), (4, 3)])
def test_a_batch_that_cannot_be_shared_out_is_refused(
    start: Path, data: Path, tmp_path: Path, batch_size: int, accumulate: int
) -> None:
    with pytest.raises(ConfigError, match=rf"batch_size {batch_size} must be a multiple of"):
        Trainer(config_of(start, data, tmp_path, batch_size=batch_size, accumulate=accumulate))


def test_recomputed_blocks_give_the_same_weights(trained: Trainer, start: Path, data: Path, tmp_path: Path) -> None:
    frugal = Trainer(config_of(start, data, tmp_path / "run", gradient_checkpointing=True))
    frugal.train()
    for name, weight in weights_of(trained).items():
        torch.testing.assert_close(weights_of(frugal)[name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_the_pictures_of_a_bad_step_are_named_and_kept(start: Path, data: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(start, data, tmp_path / "run", losses={"giou": math.inf}))
    before = weights_of(trainer)
    with pytest.raises(GlipError, match=r"step 0: the loss is (inf|nan); .*\.png.*bad-batch-0-0\.pt"):
        trainer.train()
    assert_equal(weights_of(trainer), before)
    kept = torch.load(tmp_path / "run" / "bad-batch-0-0.pt", weights_only=True)
    assert len(kept["pictures"]) == len(kept["pixel_values"]) == 2


def test_no_shards_for_one_process(start: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is one; start with torchrun"):
        Trainer(config_of(start, data, tmp_path, sharded=True))


@pytest.mark.parametrize(
    "changes",
    [{"tuning": {"mode": "lora"}}, {"validation": {"annotations": "dev.json"}}],
    ids=["low-rank additions", "validation"],
)
def test_shards_are_refused_with(changes: dict[str, Any], start: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need whole weights"):
        Trainer(config_of(start, data, tmp_path, sharded=True, **changes))


# --- validation --------------------------------------------------------------------------------------------------


def test_the_best_weights_so_far_are_kept_and_results_are_logged(start: Path, data: Path, tmp_path: Path) -> None:
    validation = {"annotations": data / "train.json", "every": 2, "metric": "AP50"}
    trainer = Trainer(config_of(start, data, tmp_path / "run", validation=validation))
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    results = {line["step"]: line["dev_AP50"] for line in lines if "dev_AP50" in line}
    assert list(results) == [2, 4]
    assert trainer.best == pytest.approx(max(results.values()), abs=1e-4)
    assert Predictor.from_pretrained(tmp_path / "run" / "best")
    assert not (tmp_path / "run" / "best.partial").exists()


def test_a_run_stops_when_nothing_gets_better(start: Path, data: Path, tmp_path: Path) -> None:
    """Random heads find nothing: the first validation is the best, the next two are no better."""
    validation = {"annotations": data / "train.json", "every": 1, "patience": 2}
    trainer = Trainer(config_of(start, data, tmp_path / "run", steps=9, validation=validation))
    trainer.train()
    assert trainer.step == 3
    assert (tmp_path / "run" / "model").is_dir()


def test_validating_does_not_change_the_run(trained: Trainer, start: Path, data: Path, tmp_path: Path) -> None:
    validation = {"annotations": data / "train.json", "every": 1}
    other = Trainer(config_of(start, data, tmp_path / "run", validation=validation))
    other.train()
    assert_equal(weights_of(other), weights_of(trained))


def test_tensorboard_gets_every_number_of_the_log(start: Path, data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    AcceleratorState._reset_state(reset_partial_state=True)  # a test's trackers are not the next one's
    Trainer(config_of(start, data, tmp_path / "run", steps=2, trackers=["tensorboard"])).train()
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    found = EventAccumulator(str(events.parent)).Reload()
    assert set(found.Tags()["scalars"]) >= LOSSES | SPEED | {"learning_rate"}
    assert [event.step for event in found.Scalars("loss_giou")] == [1, 2]


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(
    start: Path, data: Path, trained: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as torch.compile does it, and run without a compiler, which a CPU needs minutes for."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compile_module(self, backend="eager", **how))
    trainer = Trainer(config_of(start, data, tmp_path / "run", compile=True))
    trainer.train()
    assert trainer.model._compiled_call_impl is not None
    # A compiler gets plain steps, which round otherwise; Adam makes a step of any gradient, however small
    for found, expected in zip(logged_losses(trainer), logged_losses(trained), strict=True):
        assert found == pytest.approx(expected, abs=2e-3)


def test_the_weight_decay_of_a_step_is_its_share(start: Path, data: Path, tmp_path: Path) -> None:
    schedule = {"kind": "step", "warmup_steps": 0, "milestones": [0.5], "decay_follows": 1.0}
    optimizer = {"learning_rate": 1e-3, "weight_decay": 0.5}
    trainer = Trainer(config_of(start, data, tmp_path / "run", schedule=schedule, optimizer=optimizer))
    trainer.train()
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.0, 0.05}


def test_sentences_are_packed_among_those_of_other_pictures(start: Path, data: Path, tmp_path: Path) -> None:
    images = json.loads((data / "train.json").read_text())["images"]
    for number, image in enumerate(images):
        image |= {"caption": f"square number {number} is bright", "file_name": str(data / image["file_name"])}
    box = {"id": 1, "image_id": 1, "bbox": [12, 10, 30, 30], "tokens_positive": [[0, 6]]}
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": [box]}))
    trainer = Trainer(
        config_of(
            start,
            data,
            tmp_path / "run",
            sources=[{"annotations": tmp_path / "captions.json", "kind": "grounding"}],
            packing={"captions": 3, "none_share": 0.0, "full_share": 1.0},
        )
    )
    batches = trainer._batches()
    lengths = [row.sum().item() for _ in range(4) for row in next(batches).attention_mask]
    alone = len(trainer.processor.tokenizer("square number 1 is bright.")["input_ids"])
    assert min(lengths) > 2 * alone  # of three foreign captions drawn, at least two are of other pictures


def test_a_terminal_sees_validations_and_where_a_run_goes_on(
    start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    validation = {"annotations": data / "train.json", "every": 1}
    Trainer(config_of(start, data, tmp_path / "run", steps=1, validation=validation)).train()
    assert "step 1: dev AP" in capsys.readouterr().err
    Trainer(config_of(start, data, tmp_path / "run", steps=2)).train()
    assert "going on from step 1" in capsys.readouterr().err


# --- its parts ---------------------------------------------------------------------------------------------------


def test_the_rate_of_each_group_is_its_share(trained: Trainer) -> None:
    last = trained.schedule.share(3)
    assert [group["lr"] for group in trained.optimizer.param_groups] == [pytest.approx(1e-3 * last)] * 2


def test_sources_are_drawn_by_their_weights_whatever_their_length(data: Path, tmp_path: Path) -> None:
    sentence = {"id": 1, "file_name": "a.png", "height": 4, "width": 8, "caption": "a cat"}
    (tmp_path / "one.json").write_text(json.dumps({"images": [sentence], "annotations": []}))
    examples, weights = read_sources(
        (
            SourceConfig(annotations=data / "train.json", kind="detection", weight=3.0),
            SourceConfig(annotations=tmp_path / "one.json", kind="grounding", weight=0.5),
        )
    )
    assert [example.caption for example in examples] == [None] * 4 + ["a cat"]
    assert weights == [0.75] * 4 + [0.5]


def test_a_source_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(DataError, match=r"none\.json: no images in it"):
        read_sources((SourceConfig(annotations=tmp_path / "none.json", kind="detection"),))


@pytest.mark.parametrize("workers", [0, 1], ids=["in this process", "in another one"])
def test_a_picture_that_cannot_be_read_is_one_sentence(workers: int, start: Path, data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "train.json").read_text())
    for image in content["images"]:
        image["file_name"] = str(data / "nowhere.png")
    (tmp_path / "train.json").write_text(json.dumps(content))
    sources = [{"annotations": tmp_path / "train.json", "kind": "detection"}]
    trainer = Trainer(config_of(start, data, tmp_path / "run", sources=sources, workers=workers))
    with pytest.raises(GlipError) as caught:
        trainer.train()
    assert str(caught.value) == f"{data / 'nowhere.png'}: no such image file"


@pytest.mark.parametrize("precision", ["bf16"])
def test_half_precision_trains_float32_weights(precision: str, start: Path, data: Path, tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps one precision for a whole program
    try:
        trainer = Trainer(config_of(start, data, tmp_path / "run", precision=precision, steps=2))
        trainer.train()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(math.isfinite(line[name]) for line in lines for name in LOSSES)
