"""Whatever is wrong with an input, the answer is one `GlipError` in one sentence that says what to do.

The command says the same sentence as `error: ...` on standard error and ends with 1, or with 2 where the command line
itself is wrong. Nothing is written, and nothing is written over.
"""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from PIL import Image
from safetensors.torch import load_file, save_file

import glip.cli.grounding
from glip.configuration import GlipConfig
from glip.data.readers import read_detection_json, read_grounding_json
from glip.detection.postprocess import PostProcessor
from glip.engine.config import TrainConfig, read_config
from glip.engine.trainer import Trainer
from glip.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    FileError,
    GlipError,
    ImageError,
    PromptError,
    ShapeError,
)
from glip.models.glip import GlipModel
from glip.predictor import Predictor
from glip.structures.detections import Detections
from glip.structures.prompt import Phrase, Prompt
from tests.cli.conftest import RunGlip
from tests.reference.tiny_models import tiny_model

LONG = " ".join(["cat"] * 300)  # 300 words, 300 tokens
GROUNDING_CAPTION = "a red ball"  # 10 characters


@dataclass(frozen=True)
class Bench:
    """A place full of broken things.

    Attributes:
        folder: the broken files, and one good picture.
        work: the working folder, with files that must not be written over.
        notes: where a case may write its own input.
        predictor: the shipped model on small pictures.
    """

    folder: Path
    work: Path
    notes: Path
    predictor: Predictor

    @property
    def photo(self) -> Path:
        """A good picture."""
        return self.folder / "photo.png"

    def note(self, content: object, name: str = "file.json") -> Path:
        """A file of the case's own: text as it is, everything else as JSON."""
        path = self.notes / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def snapshot(self) -> dict[Path, tuple[int, int]]:
        """Size and time of every file."""
        files = [path for root in (self.folder, self.work) for path in root.rglob("*")]
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()}


Act = Callable[[Bench], object]
Arguments = Callable[[Bench], list[object]]


class WouldRun:
    """A pickled call: a program that a careless reader of the file would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What unpickling runs."""
        return os.system, ("touch was_run",)


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor, photos: Path) -> Path:
    """The folder of broken things, made once."""
    folder = tmp_path_factory.mktemp("broken")
    _make_pictures(folder, photos / "chelsea.jpg")
    _make_model_folders(folder, predictor)
    _make_weight_files(folder)
    return folder


@pytest.fixture
def bench(broken: Path, tmp_path: Path, quick: Predictor, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The broken things, and a working folder to be in."""
    work, notes = tmp_path / "work", tmp_path / "notes"
    work.mkdir()
    notes.mkdir()
    (work / "taken.png").write_bytes(b"precious")
    (work / "taken.json").write_text("precious")
    (work / "results").mkdir()
    (work / "results" / "photo.png").write_bytes(b"precious")
    monkeypatch.chdir(work)
    return Bench(broken, work, notes, quick)


def _make_pictures(folder: Path, photo: Path) -> None:
    with Image.open(photo) as opened:
        small = opened.resize((96, 64))
    small.save(folder / "photo.png")
    small.save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "whole.jpg").unlink()
    (folder / "letter.jpg").write_text("Dear all, this is not a picture.")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "no_pictures").mkdir()
    (folder / "no_pictures" / "readme.txt").write_text("nothing here")
    (folder / "pictures").mkdir()
    small.save(folder / "pictures" / "photo.png")


def _make_model_folders(folder: Path, predictor: Predictor) -> None:
    model = tiny_model("csp", top_down=False)

    def make(name: str) -> Path:
        model.save_pretrained(folder / name)
        predictor.processor.save_pretrained(folder / name)
        return folder / name

    whole = make("whole")
    (folder / "empty").mkdir()
    (make("broken_config") / "config.json").write_text('{"model_type": "glip", ')
    (make("list_config") / "config.json").write_text("[]")
    (make("bert") / "config.json").write_text('{"model_type": "bert", "hidden_size": 24}')
    (make("no_weights") / "model.safetensors").unlink()
    (make("no_processor") / "processor_config.json").unlink()
    (make("no_tokenizer") / "tokenizer.json").unlink()
    (make("broken_processor") / "processor_config.json").write_text('{"max_tokens": ')
    weights = (whole / "model.safetensors").read_bytes()
    (make("cut_weights") / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    (make("empty_weights") / "model.safetensors").write_bytes(b"")
    changed_configs: dict[str, dict[str, Any]] = {
        "unknown_field": {"chanels": 32},
        "impossible": {"num_groups": 5},
        "wider": {"channels": 64},
        "word_for_number": {"channels": "many"},
    }
    for name, changes in changed_configs.items():
        path = make(name) / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    state = load_file(whole / "model.safetensors")
    state.pop("head.bias")
    save_file(state, make("one_less") / "model.safetensors", metadata={"format": "pt"})


def _make_weight_files(folder: Path) -> None:
    (folder / "letter.pth").write_text("Dear all, these are not weights.")
    (folder / "letter.txt").write_text("Dear all, these are not weights.")
    (folder / "empty.pth").write_bytes(b"")
    torch.save({"fc.weight": torch.zeros(200, 200)}, folder / "resnet.pth")
    whole = (folder / "resnet.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    torch.save({}, folder / "nothing.pth")
    torch.save([torch.zeros(1)], folder / "list.pth")
    torch.save({"model": {"backbone.body.patch_embed.proj.weight": "words"}}, folder / "words.pth")
    (folder / "code.pth").write_bytes(pickle.dumps(WouldRun()))


def case(sentence: str, error: type[GlipError], fragment: str, act: Act) -> ParameterSet:
    """One bad input: what it is, the error, a part of its sentence, and how to get it."""
    return pytest.param(error, fragment, act, id=sentence)


IMAGES = [
    case("a missing file", FileError, "no such image file", lambda b: detect(b, b.folder / "gone.jpg")),
    case("a folder", FileError, "give the files in it", lambda b: detect(b, b.folder)),
    case("an empty name", FileError, "give the files in it", lambda b: detect(b, "")),
    case("an address", FileError, "no such image file", lambda b: detect(b, "https://example.org/a.jpg")),
    case("a JPEG cut short", ImageError, "cut short", lambda b: detect(b, b.folder / "cut.jpg")),
    case("a text file named .jpg", ImageError, "JPEG or PNG", lambda b: detect(b, b.folder / "letter.jpg")),
    case("a file of zero bytes", ImageError, "JPEG or PNG", lambda b: detect(b, b.folder / "empty.jpg")),
    case("nothing", ImageError, "must be a path", lambda b: detect(b, None)),
    case("a number", ImageError, "must be a path", lambda b: detect(b, 3)),
    case("bytes", ImageError, "must be a path", lambda b: detect(b, b"\xff\xd8")),
    case("an array of floats to 255", ImageError, "divide by 255", lambda b: detect(b, np.full((8, 8, 3), 255.0))),
    case("an array of NaN", ImageError, "[0, 1]", lambda b: detect(b, np.full((8, 8, 3), np.nan))),
    case("a tensor of infinity", ImageError, "[0, 1]", lambda b: detect(b, torch.full((3, 8, 8), torch.inf))),
    case("negative integers", ImageError, "[0, 255]", lambda b: detect(b, np.full((8, 8, 3), -1))),
    case("integers over 255", ImageError, "[0, 255]", lambda b: detect(b, np.full((8, 8, 3), 256))),
    case("five channels", ImageError, "(H, W[, 3])", lambda b: detect(b, np.zeros((8, 8, 5), np.uint8))),
    case("a tensor with channels last", ImageError, "([3,] H, W)", lambda b: detect(b, torch.zeros(8, 8, 3))),
    case("one dimension", ImageError, "(H, W[, 3])", lambda b: detect(b, np.zeros(8, np.uint8))),
    case("an array without pixels", ImageError, "one pixel", lambda b: detect(b, np.zeros((0, 8, 3), np.uint8))),
    case("an array of words", ImageError, "array", lambda b: detect(b, np.full((8, 8), "red"))),
    case("complex numbers", ImageError, "array", lambda b: detect(b, np.zeros((8, 8), np.complex64))),
    case("one bad picture among good ones", FileError, "gone.jpg", lambda b: detect(b, [b.photo, "gone.jpg"])),
]

PROMPTS = [
    case("no label", PromptError, "at least one class", lambda b: b.predictor.detect(b.photo, [])),
    case("an empty label", PromptError, "give it a name", lambda b: b.predictor.detect(b.photo, ["cat", " "])),
    case("labels as one string", PromptError, "write ['cat']", lambda b: b.predictor.detect(b.photo, "cat")),
    case("a number for a label", PromptError, "must be strings", lambda b: labels(b, ["cat", 3])),
    case("a number for the labels", PromptError, "list of class names", lambda b: labels(b, 3)),
    case("nothing for the labels", PromptError, "list of class names", lambda b: labels(b, None)),
    case("a label of 300 tokens", PromptError, "shorten it", lambda b: b.predictor.detect(b.photo, [LONG])),
    case("a label in parentheses only", PromptError, "give it a name", lambda b: labels(b, ["(weapon)"])),
    case("an invisible label", PromptError, "no letter or sign", lambda b: labels(b, ["\u200b"])),
    case("an empty caption", PromptError, "must be a sentence", lambda b: b.predictor.ground(b.photo, "  ")),
    case("nothing for the caption", PromptError, "must be a sentence", lambda b: ground(b, None, ["cat"])),
    case("a caption of 300 tokens", PromptError, "shorten it", lambda b: b.predictor.ground(b.photo, LONG, ["cat"])),
    case("a caption without nouns", PromptError, "phrases=[...]", lambda b: b.predictor.ground(b.photo, "and of")),
    case("a phrase that is not there", PromptError, "copy it from there", lambda b: ground(b, "a cat", ["zebra"])),
    case("a part of a word", PromptError, "copy it from there", lambda b: ground(b, "a carpet", ["car"])),
    case("an empty phrase", PromptError, "must have words", lambda b: ground(b, "a cat", [""])),
    case("no phrase", PromptError, "leave it out", lambda b: ground(b, "a cat", [])),
    case("phrases as one string", PromptError, "write ['cat']", lambda b: ground(b, "a cat", "cat")),
    case("a span beyond the caption", PromptError, "<= 5", lambda b: ground(b, "a cat", [(2, 99)])),
    case("a reversed span", PromptError, "0 <= start < end", lambda b: ground(b, "a cat", [(5, 2)])),
    case("a negative span", PromptError, "0 <= start < end", lambda b: ground(b, "a cat", [(-3, 5)])),
    case("an empty span", PromptError, "0 <= start < end", lambda b: ground(b, "a cat", [(2, 2)])),
    case("a span of three numbers", PromptError, "(start, end)", lambda b: ground(b, "a cat", [(0, 1, 2)])),
    case("a span of fractions", PromptError, "(start, end)", lambda b: ground(b, "a cat", [(0.5, 2.5)])),
    case("a number for a phrase", PromptError, "(start, end)", lambda b: ground(b, "a cat", [7])),
    case("a span of nothing", PromptError, "(start, end)", lambda b: ground(b, "a cat", [()])),
    case("a span over a space only", PromptError, "no letter or sign", lambda b: ground(b, "a     cat", [(2, 3)])),
    case("an empty expression", PromptError, "a few words", lambda b: b.predictor.refer(b.photo, "")),
    case("an expression of 300 tokens", PromptError, "shorten it", lambda b: b.predictor.refer(b.photo, LONG)),
    case(
        "two captions for one picture",
        ShapeError,
        "2 for 1",
        lambda b: b.predictor.ground([b.photo], ["a cat", "a dog"]),
    ),
    case("one expression for two", ShapeError, "1 for 2", lambda b: b.predictor.refer([b.photo, b.photo], ["a cat"])),
    case("a prompt's span outside", PromptError, "half-open", lambda _: Prompt("a", (Phrase("b", ((0, 2),), 0),))),
]

THRESHOLDS_AND_RULES = [
    case("threshold 2", ConfigError, "0 to 1", lambda b: threshold(b, 2.0)),
    case("a negative threshold", ConfigError, "0 to 1", lambda b: threshold(b, -0.1)),
    case("a threshold of NaN", ConfigError, "0 to 1", lambda b: threshold(b, float("nan"))),
    case("a word for a threshold", ConfigError, "0 to 1", lambda b: threshold(b, "high")),
    case("threshold 2 for a label", ConfigError, "0 to 1", lambda b: threshold(b, {"cat": 2.0})),
    case("a threshold for no label", ConfigError, "not looked for", lambda b: threshold(b, {"dog": 0.5})),
    case(
        "batches of none",
        ConfigError,
        "at least 1",
        lambda b: Predictor(b.predictor.model, b.predictor.processor, batch_size=0),
    ),
    case("an unknown aggregation", ConfigError, "'mean', 'max', or", lambda _: PostProcessor(aggregation="sum")),  # type: ignore[arg-type]
    case("a rule's threshold of 2", ConfigError, "[0, 1]", lambda _: PostProcessor(nms_threshold=2.0)),
    case("at most no detections", ConfigError, "at least 1", lambda _: PostProcessor(max_detections=0)),
    case("processor: no text", PromptError, "labels or a caption", lambda b: b.predictor.processor(b.photo, [])),
    case("processor: texts too few", ShapeError, "1 for 2", lambda b: b.predictor.processor([b.photo] * 2, [["cat"]])),
]

MODELS = [
    case("an unknown name", FileError, "glip-nano", lambda _: Predictor.from_pretrained("glip-huge")),
    case("an empty folder", CheckpointError, "save_pretrained", lambda b: load(b, "empty")),
    case("a folder of pictures", CheckpointError, "save_pretrained", lambda b: load(b, "pictures")),
    case("a text file", CheckpointError, "expected a .pth file or a folder", lambda b: load(b, "letter.txt")),
    case("a broken config.json", CheckpointError, "config.json", lambda b: load(b, "broken_config")),
    case("a list as config.json", CheckpointError, "config.json", lambda b: load(b, "list_config")),
    case("another kind of model", GlipError, "bert", lambda b: load(b, "bert")),
    case("no weights", CheckpointError, "model.safetensors", lambda b: load(b, "no_weights")),
    case("no processor", CheckpointError, "processor_config.json", lambda b: load(b, "no_processor")),
    case("no tokenizer", CheckpointError, "tokenizer", lambda b: load(b, "no_tokenizer")),
    case("a broken processor", CheckpointError, "processor_config.json", lambda b: load(b, "broken_processor")),
    case("weights cut short", CheckpointError, "cut short", lambda b: load(b, "cut_weights")),
    case("weights of zero bytes", CheckpointError, "cut short", lambda b: load(b, "empty_weights")),
    case("weights of another width", CheckpointError, "do not belong", lambda b: load(b, "wider")),
    case("weights that lack a tensor", CheckpointError, "head.bias", lambda b: load(b, "one_less")),
    case("an unknown field", ConfigError, "did you mean 'channels'", lambda b: load(b, "unknown_field")),
    case("an impossible config", ConfigError, "multiple of num_groups", lambda b: load(b, "impossible")),
    case("a word for a number", ConfigError, "channels", lambda b: load(b, "word_for_number")),
    case("a .pth that is text", CheckpointError, "not a readable checkpoint", lambda b: load(b, "letter.pth")),
    case("a .pth of zero bytes", CheckpointError, "not a readable checkpoint", lambda b: load(b, "empty.pth")),
    case("a .pth cut short", CheckpointError, "download it again", lambda b: load(b, "cut.pth")),
    case("a .pth that is a program", CheckpointError, "never run", lambda b: load(b, "code.pth")),
    case("a .pth of another network", CheckpointError, "no GLIP checkpoint", lambda b: load(b, "resnet.pth")),
    case("a .pth with nothing", CheckpointError, "dict of named tensors", lambda b: load(b, "nothing.pth")),
    case("a .pth of a list", CheckpointError, "dict of named tensors", lambda b: load(b, "list.pth")),
    case("a .pth of words", CheckpointError, "must be a tensor", lambda b: load(b, "words.pth")),
    case("a .pth that is not there", FileError, "no model", lambda b: load(b, "gone.pth")),
    case("an unknown device", ConfigError, "'cpu' or 'cuda:0'", lambda _: Predictor.from_pretrained(device="gpu")),
    case("a device without numbers", ConfigError, "cpu", lambda _: Predictor.from_pretrained(device="meta")),
    case("weights of integers", ConfigError, "dtype", lambda _: Predictor.from_pretrained(dtype=torch.int64)),
]

CONFIGURATION = [
    case("an unknown field", ConfigError, "did you mean 'channels'", lambda _: config(chanels=8)),
    case("an unknown backbone", ConfigError, "must be one of", lambda _: config(backbone={"kind": "vgg"})),
    case("a word for the backbone", ConfigError, "backbone", lambda _: config(backbone="swin")),
    case(
        "a field of another backbone", ConfigError, "known fields", lambda _: config(backbone={"kind": "csp", "x": 1})
    ),
    case(
        "a backbone without its name", ConfigError, "'name' must be given", lambda _: config(backbone={"kind": "timm"})
    ),
    case("no block", ConfigError, "at least 1", lambda _: config(num_blocks=0)),
    case("groups that do not divide", ConfigError, "multiple of num_groups", lambda _: config(num_groups=7)),
    case("no group", ConfigError, "num_groups", lambda _: config(num_groups=0)),
    case("no attention head", ConfigError, "fusion_heads", lambda _: config(fusion_heads=0)),
    case("strides that do not double", ConfigError, "twice", lambda _: config(strides=[8, 16, 24])),
    case("a word for the channels", ConfigError, "channels", lambda _: config(channels="many")),
    case("captions of one token", ConfigError, "max_tokens", lambda _: config(max_tokens=1)),
    case("an unknown text field", ConfigError, "hiden_size", lambda _: config(text={"hiden_size": 24})),
]

EXPERIMENTS = [
    case("a missing file", FileError, "no such config file", lambda b: read_config(b.notes / "gone.yaml")),
    case("a folder", FileError, "no such config file", lambda b: read_config(b.notes)),
    case("broken YAML", ConfigError, "not valid YAML", lambda b: read_config(b.note("steps: [1", "a.yaml"))),
    case("a picture", ConfigError, "not valid YAML", lambda b: read_config(b.photo)),
    case("an empty file", ConfigError, "names and values", lambda b: read_config(b.note("", "a.yaml"))),
    case("a list", ConfigError, "names and values", lambda b: read_config(b.note("[1, 2]", "a.yaml"))),
    case("a number for a key", ConfigError, "1", lambda b: experiment(b, "1: 2")),
    case("an unknown key", ConfigError, "stepps", lambda b: experiment(b, "stepps: 3")),
    case("an unknown key in a group", ConfigError, "optimizer.rate", lambda b: experiment(b, "optimizer: {rate: 1}")),
    case("an unknown augmentation", ConfigError, "flop", lambda b: experiment(b, "augmentation: {flop: 0.5}")),
    case("an unknown caption rule", ConfigError, "names", lambda b: experiment(b, "captions: {names: 3}")),
    case("an unknown loss", ConfigError, "iou", lambda b: experiment(b, "losses: {iou: 1}")),
    case("a missing key", ConfigError, "output", lambda b: read_config(b.note("steps: 3", "a.yaml"))),
    case("no source", ConfigError, "sources", lambda b: experiment(b, "sources: []")),
    case("a word for a number", ConfigError, "steps", lambda b: experiment(b, "steps: many")),
    case("a negative rate", ConfigError, "learning_rate", lambda b: experiment(b, "optimizer: {learning_rate: -1}")),
    case("a flip of 3", ConfigError, "flip", lambda b: experiment(b, "augmentation: {flip: 3}")),
    case("no short side", ConfigError, "short_sides", lambda b: experiment(b, "augmentation: {short_sides: []}")),
    case("no name in a caption", ConfigError, "max_names", lambda b: experiment(b, "captions: {max_names: 0}")),
    case("a negative number of workers", ConfigError, "workers", lambda b: experiment(b, "workers: -1")),
    case("an average that explodes", ConfigError, "ema_decay", lambda b: experiment(b, "ema_decay: 2")),
    case("an override without =", ConfigError, "key=value", lambda b: experiment(b, "", "steps")),
    case("an override of an unknown key", ConfigError, "stepps", lambda b: experiment(b, "", "stepps=3")),
    case("an override that is no group", ConfigError, "no group", lambda b: experiment(b, "", "steps.most=3")),
    case("an override of broken YAML", ConfigError, "steps=[1", lambda b: experiment(b, "", "steps=[1")),
    case("no such start", FileError, "glip-huge", lambda b: trainer(b, start="glip-huge")),
    case("a start that is a file", GlipError, "folder", lambda b: trainer(b, start=b.folder / "resnet.pth")),
    case("an unknown frozen part", ConfigError, "head", lambda b: trainer(b, tuning={"frozen": ["necks"]})),
    case("an output that is a file", FileError, "taken.json", lambda b: trainer(b, output="taken.json")),
    case("a checkpoint that is text", CheckpointError, "another output folder", lambda b: resume(b, "Dear all")),
    case("a checkpoint of something else", CheckpointError, "another output folder", lambda b: resume(b, {"a": 1})),
    case("a checkpoint of another network", CheckpointError, "another output folder", lambda b: resume(b, OTHER_RUN)),
]

DATA = [
    case("a missing file", FileError, "no such annotation file", lambda _: read_detection_json("gone.json")),
    case("a folder", FileError, "no such annotation file", lambda b: read_detection_json(b.notes)),
    case("JSON cut short", DataError, "cut short", lambda b: read_detection_json(b.note('{"images": [{"id"'))),
    case("a picture", DataError, "not valid JSON", lambda b: read_detection_json(b.photo)),
    case("a list", DataError, "'images' and 'annotations'", lambda b: read_detection_json(b.note([]))),
    case("no images", DataError, "'images' must be a list", lambda b: detection(b, images=None)),
    case("no annotations", DataError, "'annotations' must be a list", lambda b: detection(b, annotations=None)),
    case("no categories", DataError, "'categories' must be a list", lambda b: detection(b, categories=None)),
    case("a category that is a word", DataError, "list of objects", lambda b: detection(b, categories=["cat"])),
    case("a category without a name", DataError, "'name' is missing", lambda b: detection(b, categories=[{"id": 1}])),
    case("an image without its name", DataError, "'file_name' is missing", lambda b: picture(b, file_name=None)),
    case("an image without its height", DataError, "'height' is missing", lambda b: picture(b, height=None)),
    case("a word for a height", DataError, "height", lambda b: picture(b, height="tall")),
    case("a height of nothing", DataError, "height", lambda b: picture(b, height=0)),
    case("absent classes that are no list", DataError, "neg_category_ids", lambda b: picture(b, neg_category_ids=5)),
    case("an unknown image", DataError, "image_id 9", lambda b: box(b, image_id=9)),
    case("an unknown category", DataError, "category_id 9", lambda b: box(b, category_id=9)),
    case("an annotation without its box", DataError, "'bbox' is missing", lambda b: box(b, bbox=None)),
    case("a box of three numbers", DataError, "[x, y, width, height]", lambda b: box(b, bbox=[1, 2, 3])),
    case("a box of words", DataError, "[x, y, width, height]", lambda b: box(b, bbox=["1", 2, 3, 4])),
    case("a box of NaN", DataError, "[x, y, width, height]", lambda b: box(b, bbox=[float("nan"), 2, 3, 4])),
    case("an identity that is a list", DataError, "category_id", lambda b: box(b, category_id=[1])),
    case("a sentence without its caption", DataError, "'caption' is missing", lambda b: sentence(b, caption=None)),
    case("no span", DataError, "tokens_positive", lambda b: spans(b, [])),
    case("a span beyond the caption", DataError, "10 characters", lambda b: spans(b, [[2, 99]])),
    case("a reversed span", DataError, "[start, end)", lambda b: spans(b, [[5, 2]])),
    case("a span of one number", DataError, "[start, end)", lambda b: spans(b, [[5]])),
    case("a span that is a number", DataError, "[start, end)", lambda b: spans(b, [5])),
    case("a span of words", DataError, "[start, end)", lambda b: spans(b, [["a", "b"]])),
    case("a span of fractions", DataError, "[start, end)", lambda b: spans(b, [[0.5, 3.5]])),
    case("a source without images", DataError, "leave this source out", lambda b: train_on(b, images=[])),
]

SAVING = [
    case("a file that exists", FileError, "overwrite", lambda b: Detections.empty().save(b.work / "taken.json")),
    case(
        "a folder that is missing", FileError, "folder", lambda b: Detections.empty().save(b.work / "gone" / "a.json")
    ),
    case("a folder", FileError, "folder", lambda b: Detections.empty().save(b.work / "results", overwrite=True)),
]


def detect(bench: Bench, image: Any) -> object:
    return bench.predictor.detect(image, ["cat"])


def labels(bench: Bench, names: Any) -> object:
    return bench.predictor.detect(bench.photo, names)


def ground(bench: Bench, caption: Any, phrases: Any) -> object:
    return bench.predictor.ground(bench.photo, caption, phrases)


def threshold(bench: Bench, limit: Any) -> object:
    return bench.predictor.detect(bench.photo, ["cat"], threshold=limit)


def load(bench: Bench, name: str) -> object:
    return Predictor.from_pretrained(bench.folder / name)


def config(**changes: Any) -> GlipConfig:
    return GlipConfig(**changes)


def experiment(bench: Bench, line: str, *overrides: str) -> TrainConfig:
    """An experiment that is right but for one line; a later key of the same name wins in YAML."""
    right = "start: glip-nano\noutput: run\nsteps: 3\nsources: [{annotations: a.json, kind: detection}]\n"
    return read_config(bench.note(right + line, "experiment.yaml"), overrides)


def trainer(bench: Bench, **changes: Any) -> object:
    """A run that is right but for the changes, on a tiny network."""
    annotations = bench.note(detection_content(), "train.json")
    settings = {
        "start": bench.folder / "whole",
        "output": bench.notes / "run",
        "sources": [{"annotations": annotations, "images": bench.folder, "kind": "detection"}],
        "steps": 1,
        "workers": 0,
    }
    Trainer(TrainConfig(**{**settings, **changes})).train()
    return None


OTHER_RUN: dict[str, Any] = {"step": 1, "model": {"head.bias": torch.zeros(7)}, "average": {}, "optimizer": {}}


def resume(bench: Bench, content: object) -> object:
    run = bench.notes / "run"
    run.mkdir()
    if isinstance(content, str):
        (run / "checkpoint-00000001.pt").write_text(content)
    else:
        torch.save(content, run / "checkpoint-00000001.pt")
    return trainer(bench)


def detection_content(**changes: Any) -> dict[str, Any]:
    right = {
        "images": [{"id": 1, "file_name": "photo.png", "height": 64, "width": 96}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    return {**right, **changes}


def detection(bench: Bench, **changes: Any) -> object:
    return read_detection_json(bench.note(detection_content(**changes)))


def picture(bench: Bench, **changes: Any) -> object:
    """A file whose one image record is changed; None takes a field away."""
    return detection(bench, images=[changed(detection_content()["images"][0], changes)])


def box(bench: Bench, **changes: Any) -> object:
    return detection(bench, annotations=[changed(detection_content()["annotations"][0], changes)])


def changed(record: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**record, **changes}.items() if value is not None}


def sentence(bench: Bench, tokens_positive: object = None, **changes: Any) -> object:
    content = {
        "images": [
            changed({"id": 1, "file_name": "a.png", "height": 64, "width": 96, "caption": GROUNDING_CAPTION}, changes)
        ],
        "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 30, 40], "tokens_positive": tokens_positive}],
    }
    return read_grounding_json(bench.note(content))


def spans(bench: Bench, tokens_positive: object) -> object:
    return sentence(bench, tokens_positive)


def train_on(bench: Bench, **changes: Any) -> object:
    annotations = bench.note(detection_content(annotations=[], **changes))
    return trainer(bench, sources=[{"annotations": annotations, "kind": "detection"}])


def check(bench: Bench, error: type[GlipError], fragment: str, act: Act) -> None:
    before = bench.snapshot()
    with pytest.raises(error) as caught:
        act(bench)
    message = str(caught.value)
    assert fragment in message
    assert "\n" not in message
    assert bench.snapshot() == before


@pytest.mark.parametrize(("error", "fragment", "act"), IMAGES)
def test_an_image_that_is(bench: Bench, error: type[GlipError], fragment: str, act: Act) -> None:
    check(bench, error, fragment, act)


@pytest.mark.parametrize(("error", "fragment", "act"), PROMPTS)
def test_words_that_are(bench: Bench, error: type[GlipError], fragment: str, act: Act) -> None:
    check(bench, error, fragment, act)


@pytest.mark.parametrize(("error", "fragment", "act"), THRESHOLDS_AND_RULES)
def test_rules_with(bench: Bench, error: type[GlipError], fragment: str, act: Act) -> None:
    check(bench, error, fragment, act)


@pytest.mark.parametrize(("error", "fragment", "act"), MODELS)
def test_a_model_that_is(bench: Bench, error: type[GlipError], fragment: str, act: Act) -> None:
    check(bench, error, fragment, act)


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "xpu"])
def test_a_device_that_is_not_there(bench: Bench, device: str) -> None:
    own = torch.accelerator.current_accelerator(check_available=True)
    if own is not None and device.startswith(own.type):
        pytest.skip("this machine has one")
    check(bench, ConfigError, "device='cpu'", lambda _: Predictor.from_pretrained(device=device))


@pytest.mark.parametrize(("error", "fragment", "act"), CONFIGURATION)
def test_a_network_with(bench: Bench, error: type[GlipError], fragment: str, act: Act) -> None:
    check(bench, error, fragment, act)


@pytest.mark.parametrize(("error", "fragment", "act"), EXPERIMENTS)
def test_an_experiment_with(bench: Bench, error: type[GlipError], fragment: str, act: Act) -> None:
    check(bench, error, fragment, act)


@pytest.mark.parametrize(("error", "fragment", "act"), DATA)
def test_an_annotation_file_with(bench: Bench, error: type[GlipError], fragment: str, act: Act) -> None:
    check(bench, error, fragment, act)


@pytest.mark.parametrize(("error", "fragment", "act"), SAVING)
def test_saving_over(bench: Bench, error: type[GlipError], fragment: str, act: Act) -> None:
    check(bench, error, fragment, act)


def test_the_model_class_itself_refuses_weights_cut_short(bench: Bench) -> None:
    check(bench, CheckpointError, "cut short", lambda b: GlipModel.from_pretrained(b.folder / "cut_weights"))


def command(sentence: str, code: int, fragment: str, arguments: Arguments) -> ParameterSet:
    """One bad command line: what it is, the exit code, a part of the sentence, and the arguments."""
    return pytest.param(code, fragment, arguments, id=sentence)


CAT = ["--labels", "cat"]
COMMANDS = [
    command("an unknown command", 2, "detect", lambda _: ["detec", "a.jpg"]),
    command("no picture", 2, "images", lambda _: ["detect", *CAT]),
    command("no labels", 2, "--labels", lambda b: ["detect", b.photo]),
    command("no caption", 2, "Missing argument", lambda b: ["ground", b.photo]),
    command("an unknown option", 2, "--label-file", lambda b: ["detect", b.photo, *CAT, "--label-file", "a.txt"]),
    command("an option without its value", 2, "--threshold", lambda b: ["detect", b.photo, *CAT, "--threshold"]),
    command("empty labels", 1, "between commas", lambda b: ["detect", b.photo, "--labels", ""]),
    command("a label left out", 1, "between commas", lambda b: ["detect", b.photo, "--labels", "cat,,dog"]),
    command("a label of 300 tokens", 1, "shorten it", lambda b: ["detect", b.photo, "--labels", LONG]),
    command("threshold 2", 1, "0 to 1", lambda b: ["detect", b.photo, *CAT, "--threshold", "2"]),
    command("a word as threshold", 1, "0 to 1", lambda b: ["detect", b.photo, *CAT, "--threshold", "high"]),
    command("threshold NaN", 1, "0 to 1", lambda b: ["detect", b.photo, *CAT, "--threshold", "nan"]),
    command("a threshold without its number", 1, "0 to 1", lambda b: ["detect", b.photo, *CAT, "--threshold", "cat="]),
    command("a threshold for no label", 1, "dog", lambda b: ["detect", b.photo, *CAT, "--threshold", "dog=0.5"]),
    command("a missing picture", 1, "no such file or folder", lambda _: ["detect", "gone.jpg", *CAT]),
    command("a picture cut short", 1, "cut short", lambda b: ["detect", b.folder / "cut.jpg", *CAT]),
    command("text named .jpg", 1, "JPEG or PNG", lambda b: ["detect", b.folder / "letter.jpg", *CAT]),
    command("a file of zero bytes", 1, "JPEG or PNG", lambda b: ["detect", b.folder / "empty.jpg", *CAT]),
    command("a folder without pictures", 1, "no pictures", lambda b: ["detect", b.folder / "no_pictures", *CAT]),
    command("an empty caption", 1, "must be a sentence", lambda b: ["ground", b.photo, ""]),
    command("a caption of 300 tokens", 1, "shorten it", lambda b: ["ground", b.photo, LONG, "--phrases", "cat"]),
    command("a phrase elsewhere", 1, "copy it", lambda b: ["ground", b.photo, "a cat", "--phrases", "zebra"]),
    command("an empty expression", 1, "a few words", lambda b: ["refer", b.photo, ""]),
    command("an output that exists", 1, "--overwrite", lambda b: ["detect", b.photo, *CAT, "-o", "taken.png"]),
    command("JSON that exists", 1, "--overwrite", lambda b: ["detect", b.photo, *CAT, "--json", "taken.json"]),
    command("the picture itself as output", 1, "--overwrite", lambda b: ["refer", b.photo, "a cat", "-o", b.photo]),
    command("an output in no folder", 1, "make it first", lambda b: ["detect", b.photo, *CAT, "-o", "gone/a.png"]),
    command("JSON in no folder", 1, "make it first", lambda b: ["detect", b.photo, *CAT, "--json", "gone/a.json"]),
    command("an output without a suffix", 1, "end the name in", lambda b: ["detect", b.photo, *CAT, "-o", "found"]),
    command("an output of another kind", 1, "end the name in", lambda b: ["detect", b.photo, *CAT, "-o", "a.pdf"]),
    command("JSON to a folder", 1, "give a file name", lambda b: ["detect", b.photo, *CAT, "--json", "results"]),
    command(
        "two pictures to one file",
        1,
        "need a folder",
        lambda b: ["detect", b.photo, b.folder / "cut.jpg", *CAT, "-o", "a.png"],
    ),
    command(
        "two pictures of one name",
        1,
        "names are equal",
        lambda b: ["detect", b.photo, b.folder / "pictures", *CAT, "-o", "new"],
    ),
    command(
        "two pictures, one drawn before",
        1,
        "--overwrite",
        lambda b: ["detect", b.photo, b.folder / "cut.jpg", *CAT, "-o", "results"],
    ),
    command(
        "one file for two results",
        1,
        "one file",
        lambda b: ["detect", b.photo, *CAT, "-o", "both.png", "--json", "both.png"],
    ),
]
MODEL_COMMANDS = [
    command("an unknown model", 1, "glip-nano", lambda b: ["detect", b.photo, *CAT, "--model", "glip-huge"]),
    command("an unknown device", 1, "'cpu'", lambda b: ["detect", b.photo, *CAT, "--device", "gpu"]),
    command(
        "an empty model folder",
        1,
        "save_pretrained",
        lambda b: ["detect", b.photo, *CAT, "--model", b.folder / "empty"],
    ),
    command("a model that is text", 1, ".pth", lambda b: ["detect", b.photo, *CAT, "--model", b.folder / "letter.txt"]),
    command(
        "a model that is code", 1, "never run", lambda b: ["refer", b.photo, "a", "--model", b.folder / "code.pth"]
    ),
]


@pytest.mark.parametrize(("code", "fragment", "arguments"), COMMANDS)
def test_the_command_with(
    bench: Bench, run_glip: RunGlip, monkeypatch: pytest.MonkeyPatch, code: int, fragment: str, arguments: Arguments
) -> None:
    monkeypatch.setattr(glip.cli.grounding, "load_predictor", lambda _model, _device, **_options: bench.predictor)
    check_command(bench, run_glip, code, fragment, arguments(bench))


@pytest.mark.parametrize(("code", "fragment", "arguments"), MODEL_COMMANDS)
def test_the_command_that_loads(
    bench: Bench, run_glip: RunGlip, code: int, fragment: str, arguments: Arguments
) -> None:
    check_command(bench, run_glip, code, fragment, arguments(bench))


def check_command(bench: Bench, run_glip: RunGlip, code: int, fragment: str, arguments: list[object]) -> None:
    before = bench.snapshot()
    ended_with, out, err = run_glip(*arguments)
    assert (ended_with, out) == (code, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert fragment in err
    assert bench.snapshot() == before


def test_a_bad_picture_among_good_ones_is_named_and_the_others_are_done(
    bench: Bench, run_glip: RunGlip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glip.cli.grounding, "load_predictor", lambda _model, _device, **_options: bench.predictor)
    cut, letter = bench.folder / "cut.jpg", bench.folder / "letter.jpg"
    code, out, err = run_glip("refer", cut, bench.photo, letter, "a cat", "--json", "new.json")
    assert code == 1
    assert [line.split(":")[:2] for line in err.splitlines()] == [["error", f" {cut}"], ["error", f" {letter}"]]
    assert out.startswith(f"{bench.photo}\ta cat\t")
    assert list(json.loads((bench.work / "new.json").read_text())) == [str(bench.photo)]


def test_a_process_of_its_own_says_no_more_than_the_sentence(bench: Bench) -> None:
    """Whatever transformers logs or draws while it loads stays away from the terminal."""
    arguments = ["detect", bench.photo, *CAT, "--model", bench.folder / "one_less"]
    ended = subprocess.run(
        [sys.executable, "-c", "from glip.cli.main import main; main()", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
