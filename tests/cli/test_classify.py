"""`glip classify` says a line for each class; `glip evaluate zeroshot` and `retrieval` a line for each number."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from glip.clip_processing import ClipImageProcessor, ClipProcessor
from tests.cli.conftest import RunGlip
from tests.reference.tiny_models import TINY_TEXT, tiny_clip

BERT_VOCABULARY = 30522


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip("csp", text={**TINY_TEXT, "vocab_size": BERT_VOCABULARY}).save_pretrained(folder)
    ClipProcessor(ClipImageProcessor(32), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def album(tmp_path: Path, photos: Path) -> Path:
    """A folder for each of two classes, and captions of their pictures."""
    for name, photo in (("cat", "chelsea.jpg"), ("cup", "coffee.jpg")):
        (tmp_path / "album" / name).mkdir(parents=True)
        shutil.copy(photos / photo, tmp_path / "album" / name / "1.jpg")
    rows = ["image,caption", "cat/1.jpg,a cat", "cat/1.jpg,a striped cat", "cup/1.jpg,a cup of coffee"]
    (tmp_path / "album" / "captions.csv").write_text("\n".join(rows))
    return tmp_path / "album"


def test_each_class_is_a_line_best_first(run_glip: RunGlip, album: Path, model: Path) -> None:
    code, out, err = run_glip("classify", album / "cat" / "1.jpg", "--classes", "cat, dog, cup", "--model", model)
    lines = [line.split("\t") for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert sorted(name for name, _ in lines) == ["cat", "cup", "dog"]
    scores = [float(score) for _, score in lines]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1.0, abs=0.02)


def test_several_pictures_have_their_paths_in_front(run_glip: RunGlip, album: Path, model: Path) -> None:
    pictures = [album / "cat", album / "cup" / "1.jpg"]
    _, out, _ = run_glip("classify", *pictures, "-c", "cat, dog", "--model", model, "--top", 1, "--templates", 0)
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(album / "cat" / "1.jpg"), str(pictures[1])]


def test_all_probabilities_can_be_written(run_glip: RunGlip, album: Path, model: Path, tmp_path: Path) -> None:
    arguments = [
        "classify",
        album / "cup",
        "-c",
        "cat, dog",
        "--model",
        model,
        "--top",
        1,
        "--json",
        tmp_path / "a.json",
    ]
    assert run_glip(*arguments)[0] == 0
    written = json.loads((tmp_path / "a.json").read_text())
    assert list(written) == ["cat", "dog"]
    assert sum(written.values()) == pytest.approx(1.0)
    code, _, err = run_glip(*arguments)
    assert code == 1
    assert "exists already" in err
    assert run_glip(*arguments, "--overwrite")[0] == 0


def test_own_templates_come_from_a_file(run_glip: RunGlip, album: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("my {}\n\nthe {} here\n")
    arguments = ("classify", album / "cup", "-c", "cat, dog", "--model", model, "--templates")
    assert run_glip(*arguments, tmp_path / "mine.txt")[0] == 0


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        pytest.param("5", "template sets have [0, 1, 7, 80] sentences", id="a set that is not there"),
        pytest.param("gone.txt", "--templates must be 0, 1, 7, 80 or a text file", id="a file that is not there"),
    ],
)
def test_templates_are_refused(run_glip: RunGlip, album: Path, model: Path, templates: str, message: str) -> None:
    code, _, err = run_glip("classify", album / "cup", "-c", "cat", "--model", model, "--templates", templates)
    assert code == 1
    assert message in err


def test_a_detector_is_no_classifier(run_glip: RunGlip, album: Path) -> None:
    code, _, err = run_glip("classify", album / "cup", "-c", "cat", "--model", "glip-nano")
    assert code == 1
    assert err.startswith("error: ")
    assert "of a 'glip' model, expected 'glip_clip'" in err


def test_accuracy_is_said_and_written(run_glip: RunGlip, album: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "numbers.json"
    code, out, _ = run_glip("evaluate", "zeroshot", "--data", album, "--model", model, "--output", output)
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["top1", "top5"]
    written = json.loads(output.read_text())
    assert written["metrics"]["top5"] == 1.0
    assert (written["metrics"]["pictures"], written["metrics"]["classes"]) == (2, 2)
    assert written["settings"]["templates"] == "7"


def test_recall_is_said_and_written(run_glip: RunGlip, album: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "numbers.json"
    pairs = album / "captions.csv"
    code, out, _ = run_glip("evaluate", "retrieval", "--pairs", pairs, "--model", model, "--output", output)
    assert code == 0
    assert len(out.splitlines()) == 6
    metrics = json.loads(output.read_text())["metrics"]
    assert (metrics["pictures"], metrics["captions"]) == (2, 3)
    assert metrics["text_to_image_recall@5"] == metrics["image_to_text_recall@5"] == 1.0


def test_a_folder_without_classes_is_refused(run_glip: RunGlip, model: Path, tmp_path: Path) -> None:
    code, _, err = run_glip("evaluate", "zeroshot", "--data", tmp_path, "--model", model)
    assert code == 1
    assert "each class needs a folder of its own" in err
