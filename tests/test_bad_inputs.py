"""Every bad input to the Python doors is an error of ours: one sentence with what was expected and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch

from glip.configuration import GlipConfig
from glip.detection.postprocess import PostProcessor
from glip.errors import GlipError
from glip.predictor import SHIPPED, Predictor

GREY = np.full((40, 60, 3), 128, dtype=np.uint8)

Door = Callable[[Predictor], object]

CASES: list[object] = [
    pytest.param(lambda p: p.detect(GREY, []), "at least one class", id="no labels"),
    pytest.param(lambda p: p.detect(GREY, "cat"), "must be a list", id="a string as labels"),
    pytest.param(lambda p: p.detect(GREY, ["cat", ""]), "no words left", id="an empty label"),
    pytest.param(lambda p: p.detect(GREY, ["cat", 3]), "must be strings", id="a number as label"),
    pytest.param(lambda p: p.detect(GREY, [None]), "must be strings", id="None as label"),
    pytest.param(lambda p: p.detect(GREY, ["cat"], threshold={"cow": 0.5}), "not looked for", id="a strange threshold"),
    pytest.param(lambda p: p.detect("missing.jpg", ["cat"]), "no such image file", id="a missing picture"),
    pytest.param(lambda p: p.detect(Path(__file__).parent, ["cat"]), "is a folder", id="a folder as picture"),
    pytest.param(lambda p: p.detect(__file__, ["cat"]), "not an image", id="a program as picture"),
    pytest.param(lambda p: p.detect(7, ["cat"]), "must be a path", id="a number as picture"),
    pytest.param(lambda p: p.detect(None, ["cat"]), "must be a path", id="None as picture"),
    pytest.param(lambda p: p.detect(np.zeros((3, 4, 5)), ["cat"]), "(H, W[, 3])", id="five channels"),
    pytest.param(
        lambda p: p.detect(np.zeros((0, 4, 3), np.uint8), ["cat"]), "one pixel", id="a picture without pixels"
    ),
    pytest.param(lambda p: p.detect(np.full((4, 4, 3), 300), ["cat"]), "[0, 255]", id="integers over 255"),
    pytest.param(lambda p: p.detect(np.full((4, 4, 3), -1), ["cat"]), "[0, 255]", id="negative integers"),
    pytest.param(lambda p: p.detect(np.full((4, 4, 3), 7.5), ["cat"]), "[0, 1]", id="floats over 1"),
    pytest.param(lambda p: p.detect(np.full((4, 4, 3), np.nan), ["cat"]), "[0, 1]", id="not a number"),
    pytest.param(lambda p: p.detect(torch.zeros(2, 4, 4), ["cat"]), "tensor", id="a tensor of two channels"),
    pytest.param(lambda p: p.detect(np.zeros(5, np.uint8), ["cat"]), "(H, W[, 3])", id="a row of numbers"),
    pytest.param(lambda p: p.ground(GREY, ""), "must be a sentence", id="an empty sentence"),
    pytest.param(lambda p: p.ground(GREY, "a cat", []), "at least one phrase", id="an empty list of phrases"),
    pytest.param(lambda p: p.ground(GREY, "a cat", "cat"), "must be a list", id="a string as phrases"),
    pytest.param(lambda p: p.ground(GREY, "a cat", ["dog"]), "does not stand in", id="a phrase from elsewhere"),
    pytest.param(lambda p: p.ground(GREY, "a cat", [(2, 9)]), "0 <= start < end <= 5", id="a span past the end"),
    pytest.param(lambda p: p.ground(GREY, "a cat", [(3, 2)]), "0 <= start < end", id="a span turned round"),
    pytest.param(lambda p: p.ground(GREY, "a cat", [(1, 2)]), "no letter or sign", id="a span of a space"),
    pytest.param(lambda p: p.ground(GREY, "a cat", [(1, 2, 3)]), "half-open", id="a span of three numbers"),
    pytest.param(lambda p: p.ground(GREY, "a cat", [2.5]), "half-open", id="a number as span"),
    pytest.param(lambda p: p.ground([GREY], ["a cat", "a dog"]), "its caption", id="two captions for one picture"),
    pytest.param(lambda p: p.ground(GREY, "cat " * 300, ["cat"]), "at most 256", id="a sentence over the limit"),
    pytest.param(lambda p: p.refer(GREY, ""), "a few words", id="an empty expression"),
    pytest.param(lambda p: p.refer(GREY, "cat " * 300), "at most 256", id="an expression over the limit"),
    pytest.param(lambda p: Predictor(p.model, p.processor, batch_size=0), "at least 1", id="batches of nothing"),
    pytest.param(lambda _: Predictor.from_pretrained("glip-giant"), "no model", id="an unknown model"),
    pytest.param(lambda _: Predictor.from_pretrained(device="tpu9"), "device must be", id="an unknown device"),
    pytest.param(lambda _: PostProcessor(aggregation="power"), "'mean' or 'max'", id="an unknown aggregation"),
    pytest.param(lambda _: PostProcessor(nms_threshold=1.5), "[0, 1]", id="an overlap over 1"),
    pytest.param(lambda _: GlipConfig(fusion_heads=7), "multiple of fusion_heads", id="heads that do not divide"),
    pytest.param(lambda _: GlipConfig(fusion_dims=7), "did you mean 'fusion_dim'", id="a misspelt number"),
    pytest.param(lambda _: GlipConfig(strides=[8, 16, 30]), "twice the one before", id="strides that do not double"),
    pytest.param(lambda _: GlipConfig(num_blocks=0), "at least 1", id="no blocks"),
    pytest.param(lambda _: GlipConfig(backbone={"kind": "vgg"}), "must be one of", id="an unknown backbone"),
    pytest.param(lambda _: GlipConfig(backbone={"kind": "timm"}), "'name' must be given", id="timm without a name"),
]


def one_sentence(error: GlipError, fragment: str) -> None:
    message = str(error)
    assert fragment in message
    assert "\n" not in message
    assert "Traceback" not in message


@pytest.mark.parametrize(("door", "fragment"), CASES)
def test_python_door(door: Door, fragment: str, predictor: Predictor) -> None:
    with pytest.raises(GlipError) as raised:
        door(predictor)
    one_sentence(raised.value, fragment)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:200])


def configure(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | changes))

    return change


@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        pytest.param(remove("config.json"), "no config.json", id="without its config"),
        pytest.param(cut("config.json"), "config.json", id="with its config cut short"),
        pytest.param(configure(surprise=1), "unknown field 'surprise'", id="with an unknown number"),
        pytest.param(configure(num_blocks=3), "missing keys", id="with weights of a smaller network"),
        pytest.param(configure(num_blocks=1), "unexpected keys", id="with weights of a larger network"),
        pytest.param(configure(channels=64), "mismatched keys", id="with weights of a wider network"),
        pytest.param(configure(model_type="bert"), "glip", id="of another kind"),
        pytest.param(cut("trained.safetensors"), "weights", id="with its weights cut short"),
        pytest.param(remove("trained.safetensors"), "weights", id="without its weights"),
        pytest.param(remove("tokenizer.json"), "tokenizer", id="without its tokenizer"),
        pytest.param(cut("tokenizer.json"), "tokenizer", id="with its tokenizer cut short"),
        pytest.param(cut("processor_config.json"), "processor", id="with its processor cut short"),
    ],
)
def test_a_model_folder(damage: Callable[[Path], object], fragment: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    copytree(SHIPPED["glip-nano"], folder)
    damage(folder)
    with pytest.raises(GlipError) as raised:
        Predictor.from_pretrained(folder)
    one_sentence(raised.value, fragment)
