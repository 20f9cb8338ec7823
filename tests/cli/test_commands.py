"""`glip detect`, `glip ground` and `glip refer`: pictures in; lines, a drawn picture and JSON out; 0 is all went well.

A line is `label<TAB>score<TAB>x1 y1 x2 y2`, with the picture's path in front where there are several.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops

import glip.cli.grounding
from glip.cli.grounding import parse_labels, parse_threshold
from glip.errors import ConfigError, PromptError
from glip.predictor import Predictor
from glip.structures.detections import Detections
from tests.cli.conftest import RunGlip

LINE = r"[^\t]+\t[01]\.\d\d\t\d+ \d+ \d+ \d+"


@pytest.fixture(autouse=True)
def _one_loaded_model(monkeypatch: pytest.MonkeyPatch, quick: Predictor) -> None:
    monkeypatch.setattr(glip.cli.grounding, "load_predictor", lambda _model, _device, **_options: quick)


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        pytest.param(["detect", "PHOTO", "--labels", "cat", "--threshold", "0"], "cat", id="detect a class"),
        pytest.param(
            ["ground", "PHOTO", "a cat on a sofa", "--phrases", "cat", "--threshold", "0"], "cat", id="ground"
        ),
        pytest.param(["refer", "PHOTO", "the big cat"], "the big cat", id="refer to one thing"),
    ],
)
def test_each_command_says_a_line_for_each_box(
    run_glip: RunGlip, photo: Path, arguments: list[str], label: str
) -> None:
    code, out, err = run_glip(*(photo if argument == "PHOTO" else argument for argument in arguments))
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines
    assert all(re.fullmatch(LINE, line) and line.startswith(f"{label}\t") for line in lines)


def test_refer_says_one_line(run_glip: RunGlip, photo: Path) -> None:
    assert run_glip("refer", photo, "the cat")[1].count("\n") == 1


def test_ground_finds_noun_phrases_where_none_are_named(run_glip: RunGlip, photo: Path) -> None:
    out = run_glip("ground", photo, "a cat next to a red ball", "--threshold", "0")[1]
    assert {line.split("\t")[0] for line in out.splitlines()} <= {"a cat", "a red ball"}


def test_nothing_found_is_said_and_is_no_error(run_glip: RunGlip, photo: Path) -> None:
    code, out, err = run_glip("detect", photo, "--labels", "cat", "--threshold", "1")
    assert (code, err) == (0, "")
    assert out == "nothing found; a lower --threshold shows less certain boxes\n"


def test_lines_of_several_pictures_begin_with_their_paths(run_glip: RunGlip, album: Path, photo: Path) -> None:
    code, out, _ = run_glip("refer", album, photo, "a cat")
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        str(album / "a.JPG"),
        str(album / "b.jpg"),
        str(photo),
    ]


def test_json_of_one_picture_is_a_list_of_what_the_lines_say(run_glip: RunGlip, photo: Path, tmp_path: Path) -> None:
    code, out, _ = run_glip("detect", photo, "-l", "café, cat", "--threshold", "0", "--json", tmp_path / "found.json")
    text = (tmp_path / "found.json").read_text(encoding="utf-8")
    records: list[dict[str, Any]] = json.loads(text)
    assert code == 0
    assert "café" in text  # readable, not escaped
    assert [line.split("\t")[0] for line in out.splitlines()] == [record["label"] for record in records]
    assert all(set(record) == {"score", "label", "box"} for record in records)
    assert all(list(record["box"]) == ["xmin", "ymin", "xmax", "ymax"] for record in records)


def test_json_of_several_pictures_is_a_list_for_each_path(run_glip: RunGlip, album: Path, tmp_path: Path) -> None:
    run_glip("refer", album, "a cat", "--json", tmp_path / "found.json")
    content = json.loads((tmp_path / "found.json").read_text())
    assert {path: len(records) for path, records in content.items()} == {
        str(album / "a.JPG"): 1,
        str(album / "b.jpg"): 1,
    }


def test_the_drawn_picture_is_the_photo_with_something_on_it(run_glip: RunGlip, photo: Path, tmp_path: Path) -> None:
    assert run_glip("refer", photo, "the cat", "--output", tmp_path / "drawn.png")[0] == 0
    with Image.open(photo) as before, Image.open(tmp_path / "drawn.png") as after:
        assert after.size == before.size
        assert ImageChops.difference(before.convert("RGB"), after).getbbox() is not None


def test_several_drawn_pictures_go_to_a_new_folder(run_glip: RunGlip, album: Path, tmp_path: Path) -> None:
    assert run_glip("refer", album, "a cat", "--output", tmp_path / "drawn")[0] == 0
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a.png", "b.png"]


def test_a_folder_of_one_picture_is_one_picture(run_glip: RunGlip, album: Path, tmp_path: Path) -> None:
    (album / "b.jpg").unlink()
    code, out, _ = run_glip("refer", album, "a cat", "--output", tmp_path / "drawn.png")
    assert code == 0
    assert out.startswith("a cat\t")
    assert (tmp_path / "drawn.png").is_file()


@pytest.mark.parametrize("option", ["--output", "--json"])
def test_nothing_is_written_over_unless_that_is_asked_for(
    run_glip: RunGlip, photo: Path, tmp_path: Path, option: str
) -> None:
    target = tmp_path / "taken.png"
    target.write_bytes(b"precious")
    assert run_glip("refer", photo, "a cat", option, target)[0] == 1
    assert target.read_bytes() == b"precious"
    assert run_glip("refer", photo, "a cat", option, target, "--overwrite")[0] == 0
    assert target.read_bytes() != b"precious"


def test_the_photo_itself_is_left_as_it_is(run_glip: RunGlip, photo: Path, tmp_path: Path) -> None:
    before = photo.read_bytes()
    run_glip("refer", photo, "a cat", "--output", tmp_path / "drawn.jpg", "--json", tmp_path / "found.json")
    assert photo.read_bytes() == before


def test_a_threshold_for_each_label_is_that_labels(run_glip: RunGlip, photo: Path) -> None:
    out = run_glip("detect", photo, "--labels", "cat, dog", "--threshold", "cat=1, dog=0")[1]
    assert {line.split("\t")[0] for line in out.splitlines()} == {"dog"}


def test_the_model_and_device_that_are_named_are_loaded(
    run_glip: RunGlip, photo: Path, monkeypatch: pytest.MonkeyPatch, quick: Predictor
) -> None:
    asked: list[tuple[str, str]] = []

    def load(model: str, device: str, **_options: object) -> Predictor:
        asked.append((model, device))
        return quick

    monkeypatch.setattr(glip.cli.grounding, "load_predictor", load)
    run_glip("refer", photo, "a cat")
    run_glip("refer", photo, "a cat", "--model", "mine", "--device", "cuda:1")
    assert asked == [("glip-nano", "cpu"), ("mine", "cuda:1")]


def test_stopping_by_hand_ends_with_130_and_keeps_what_was_written(
    run_glip: RunGlip, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([Detections(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.ones(1), torch.zeros(1).long(), ("a cat",))])

    def stop_at_the_second(_self: Predictor, _image: Path, _expression: str) -> Detections:
        try:
            return next(found)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(Predictor, "refer", stop_at_the_second)
    code, _, err = run_glip("refer", album, "a cat", "--output", tmp_path / "drawn")
    assert (code, err) == (130, "interrupted; what was written so far is whole\n")
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["a.png"]


@pytest.mark.parametrize("command", ["detect", "ground", "refer"])
def test_the_help_of_each_command_shows_an_example_to_copy(run_glip: RunGlip, command: str) -> None:
    code, out, err = run_glip(command, "--help")
    assert (code, err) == (0, "")
    assert f"Example: glip {command} " in out


@pytest.mark.parametrize(
    ("arguments", "code"), [pytest.param(["--help"], 0, id="asked for"), pytest.param([], 2, id="without a command")]
)
def test_help_names_every_command_and_a_first_step_when(run_glip: RunGlip, arguments: Sequence[str], code: int) -> None:
    ended_with, out, err = run_glip(*arguments)
    assert ended_with == code
    assert "glip detect photo.jpg" in out + err
    assert all(f"\n  {command} " in out + err for command in ("detect", "ground", "refer"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("cat", ["cat"], id="one name"),
        pytest.param("cat,dog", ["cat", "dog"], id="two names"),
        pytest.param(" cat ,  remote control ", ["cat", "remote control"], id="names with spaces round and in them"),
        pytest.param("Cat,cat", ["Cat", "cat"], id="capitals stay"),
    ],
)
def test_labels_between_commas(text: str, names: list[str]) -> None:
    assert parse_labels(text) == names


@pytest.mark.parametrize("text", ["", " ", ",", "cat,", ",cat"])
def test_labels_without_a_name_are_refused(text: str) -> None:
    with pytest.raises(PromptError, match="between commas"):
        parse_labels(text)


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        pytest.param(None, None, id="left out is the model's own"),
        pytest.param("0.4", 0.4, id="a number"),
        pytest.param("0", 0.0, id="the lowest"),
        pytest.param("1", 1.0, id="the highest"),
        pytest.param("cat=0.4", {"cat": 0.4}, id="a number for one label"),
        pytest.param("cat = 0.4, remote control = 0.6", {"cat": 0.4, "remote control": 0.6}, id="two, with spaces"),
    ],
)
def test_thresholds(text: str | None, threshold: float | dict[str, float] | None) -> None:
    assert parse_threshold(text) == threshold


@pytest.mark.parametrize("text", ["", "-0.1", "1.1", "nan", "inf", "40%", "cat=", "cat=2", "cat=0.4,dog", "cat=0.4,"])
def test_thresholds_that_are_no_share_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="0 to 1"):
        parse_threshold(text)
