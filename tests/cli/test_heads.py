"""`glip detect --masks`, `glip caption` and `glip answer`: what heads say, as lines, as JSON and on the picture."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from transformers import PreTrainedTokenizerBase

import glip.cli.grounding
from glip.predictor import Predictor
from glip.structures.masks import masks_of
from tests.cli.conftest import RunGlip
from tests.reference.tiny_predictor import ANSWERS, tiny_predictor


@pytest.fixture(scope="module")
def headed(tokenizer: PreTrainedTokenizerBase) -> Predictor:
    return tiny_predictor(tokenizer)


@pytest.fixture(autouse=True)
def _one_loaded_model(monkeypatch: pytest.MonkeyPatch, headed: Predictor) -> None:
    monkeypatch.setattr(glip.cli.grounding, "load_predictor", lambda _model, _device, **_options: headed)


def test_masks_are_in_the_json_as_run_lengths_and_on_the_picture(
    run_glip: RunGlip, photo: Path, tmp_path: Path, headed: Predictor
) -> None:
    common = ["detect", photo, "-l", "cat, dog"]
    plain = run_glip(*common, "--output", tmp_path / "plain.png", "--json", tmp_path / "plain.json")
    found = run_glip(*common, "--masks", "--output", tmp_path / "masks.png", "--json", tmp_path / "masks.json")
    assert (plain[0], found[0]) == (0, 0)
    assert found[1] == plain[1]
    records = json.loads((tmp_path / "masks.json").read_text())
    assert all("segmentation" not in record for record in json.loads((tmp_path / "plain.json").read_text()))
    expected = headed.segment(photo, ["cat", "dog"]).masks
    assert expected is not None
    assert torch.equal(masks_of([record["segmentation"] for record in records], (300, 451)), expected)
    with Image.open(tmp_path / "plain.png") as before, Image.open(tmp_path / "masks.png") as after:
        assert ImageChops.difference(before, after).getbbox() is not None


def test_a_caption_is_a_line_and_a_record(run_glip: RunGlip, photo: Path, tmp_path: Path, headed: Predictor) -> None:
    code, out, err = run_glip("caption", photo, "--beams", 2, "--json", tmp_path / "said.json")
    said = headed.caption(photo, beams=2)
    assert (code, out, err) == (0, f"{said}\n", "")
    assert json.loads((tmp_path / "said.json").read_text()) == {"caption": said}


def test_captions_of_several_pictures_have_their_paths(run_glip: RunGlip, album: Path, tmp_path: Path) -> None:
    _, out, _ = run_glip("caption", album, "--json", tmp_path / "said.json")
    paths = [str(album / "a.JPG"), str(album / "b.jpg")]
    assert [line.split("\t")[0] for line in out.splitlines()] == paths
    assert list(json.loads((tmp_path / "said.json").read_text())) == paths


def test_an_answer_is_a_line_with_its_score_and_box(run_glip: RunGlip, photo: Path) -> None:
    code, out, err = run_glip("answer", photo, "what is it?", "--top", 3)
    assert (code, err) == (0, "")
    assert all(re.fullmatch(r"[^\t]+\t[01]\.\d\d\t\d+ \d+ \d+ \d+", line) for line in out.splitlines())
    assert sorted(line.split("\t")[0] for line in out.splitlines()) == sorted(ANSWERS)


def test_answers_are_written_and_drawn(run_glip: RunGlip, photo: Path, tmp_path: Path) -> None:
    targets = ["--json", tmp_path / "said.json", "--output", tmp_path / "drawn.png"]
    assert run_glip("answer", photo, "what is it?", *targets)[0] == 0
    (record,) = json.loads((tmp_path / "said.json").read_text())
    assert list(record) == ["answer", "score", "box"]
    assert list(record["box"]) == ["xmin", "ymin", "xmax", "ymax"]
    with Image.open(photo) as before, Image.open(tmp_path / "drawn.png") as after:
        assert ImageChops.difference(before.convert("RGB"), after).getbbox() is not None


def test_an_answer_without_a_box_is_a_line_without_corners_and_draws_nothing(
    run_glip: RunGlip, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headed: Predictor
) -> None:
    monkeypatch.setattr(headed.processor, "threshold", 1.0)
    _, out, _ = run_glip("answer", photo, "what is it?", "--output", tmp_path / "drawn.png")
    assert re.fullmatch(r"[^\t]+\t[01]\.\d\d\n", out)
    with Image.open(photo) as before, Image.open(tmp_path / "drawn.png") as after:
        assert ImageChops.difference(before.convert("RGB"), after).getbbox() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["detect", "PHOTO", "-l", "cat", "--masks"], "no mask head", id="masks"),
        pytest.param(["caption", "PHOTO"], "no captioning head", id="a caption"),
        pytest.param(["answer", "PHOTO", "what is it?"], "no question answering head", id="an answer"),
    ],
)
def test_a_model_without_the_head_cannot_give(
    arguments: list[str],
    message: str,
    run_glip: RunGlip,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    bare = tiny_predictor(tokenizer, heads={})
    monkeypatch.setattr(glip.cli.grounding, "load_predictor", lambda _model, _device, **_options: bare)
    code, out, err = run_glip(*(photo if argument == "PHOTO" else argument for argument in arguments))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: this model has {message}; load one that has, or add one")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["caption", "gone.jpg"], 1, "gone.jpg: no such file", id="a missing picture"),
        pytest.param(["caption", "PHOTO", "--beams", "0"], 2, "beams", id="no beam"),
        pytest.param(["answer", "PHOTO", " "], 1, "the question must be a few words", id="an empty question"),
        pytest.param(["answer", "PHOTO", "what?", "--top", "0"], 2, "top", id="no answer"),
        pytest.param(["answer", "PHOTO"], 2, "Missing argument", id="no question"),
    ],
)
def test_one_sentence_refuses(arguments: list[str], code: int, message: str, run_glip: RunGlip, photo: Path) -> None:
    ended, out, err = run_glip(*(photo if argument == "PHOTO" else argument for argument in arguments))
    assert (ended, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["caption", "answer"])
def test_the_help_shows_an_example_to_copy(run_glip: RunGlip, command: str) -> None:
    code, out, _ = run_glip(command, "--help")
    assert code == 0
    assert f"Example: glip {command} photo.jpg" in out
