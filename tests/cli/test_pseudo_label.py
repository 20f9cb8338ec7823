"""`glip pseudo-label`: pictures and captions in; training data, a report and two sheets out."""

import json
import shutil
from pathlib import Path

import pytest

import glip.cli.grounding
from glip.data.readers import read_any
from glip.predictor import Predictor
from tests.cli.conftest import RunGlip


@pytest.fixture(autouse=True)
def _one_loaded_model(monkeypatch: pytest.MonkeyPatch, quick: Predictor) -> None:
    monkeypatch.setattr(glip.cli.grounding, "load_predictor", lambda _model, _device, **_options: quick)


@pytest.fixture
def album(tmp_path: Path, photos: Path) -> Path:
    """Two pictures with captions, one of which has no noun phrase."""
    folder = tmp_path / "album"
    folder.mkdir()
    shutil.copy(photos / "chelsea.jpg", folder / "cat.jpg")
    shutil.copy(photos / "coffee.jpg", folder / "cup.jpg")
    (folder / "cat.txt").write_text("a cat")
    (folder / "cup.txt").write_text("it is")
    return folder


def test_what_was_kept_is_written_and_said(run_glip: RunGlip, album: Path, tmp_path: Path) -> None:
    code, out, err = run_glip(
        "pseudo-label", album, "-o", tmp_path / "p.jsonl", "--confidence", "0.2", "--max-boxes", 1
    )
    assert (code, err) == (0, "")
    assert "pairs\t1 of 2 kept\n  no noun phrase in the caption\t1\n" in out
    assert "phrases\t1 of 1 kept\n" in out
    (example,) = read_any(tmp_path / "p.jsonl", images=album)
    assert [thing.name for thing in example.objects] == ["a cat"]
    assert json.loads((tmp_path / "p.report.json").read_text())["boxes"]["kept"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        *("album", "p.jsonl", "p.report.json", "p.kept.jpg", "p.dropped.jpg")
    }


def test_each_shard_has_files_of_its_own(run_glip: RunGlip, album: Path, tmp_path: Path) -> None:
    for shard in ("1/2", "2/2"):
        assert run_glip("pseudo-label", album, "-o", tmp_path / "p.json", "--shard", shard)[0] == 0
    assert (tmp_path / "p.1-of-2.json").is_file()
    assert (tmp_path / "p.2-of-2.report.json").is_file()


def test_nothing_kept_is_said_and_is_no_error(run_glip: RunGlip, album: Path, tmp_path: Path) -> None:
    code, out, err = run_glip("pseudo-label", album, "-o", tmp_path / "p.jsonl", "--confidence", "1")
    assert (code, err) == (0, "")
    assert "nothing was kept; a lower --confidence" in out
    assert (tmp_path / "p.jsonl").read_text() == ""


def test_a_finished_file_stays_unless_told(run_glip: RunGlip, album: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("mine")
    code, _, err = run_glip("pseudo-label", album, "-o", tmp_path / "p.jsonl", "--teacher", "not even looked for")
    assert code == 1
    assert "exists already" in err
    assert (tmp_path / "p.jsonl").read_text() == "mine"
    assert run_glip("pseudo-label", album, "-o", tmp_path / "p.jsonl", "--overwrite")[0] == 0
    assert (tmp_path / "p.jsonl").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["-o", "OUT/p.txt"], "end the name in .jsonl", id="an ending without a format"),
        pytest.param(["-o", "OUT/none/p.json"], "there is no folder", id="a folder that is not there"),
        pytest.param(["-o", "OUT/p.json", "--confidence", "2"], "confidence must be in [0, 1]", id="a confidence"),
        pytest.param(["-o", "OUT/p.json", "--max-boxes", "0"], "max_boxes must be at least 1", id="no boxes"),
        pytest.param(["-o", "OUT/p.json", "--shard", "half"], "as in 1/4, got 'half'", id="a shard in words"),
        pytest.param(["-o", "OUT/p.json", "--shard", "5/4"], "a shard must be from 1/N to N/N", id="a shard too many"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run_glip: RunGlip, album: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, out, err = run_glip("pseudo-label", album, *(word.replace("OUT", str(tmp_path)) for word in arguments))
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_other_words_than_the_choices_are_refused(run_glip: RunGlip, album: Path) -> None:
    code, _, err = run_glip("pseudo-label", album, "-o", "p.yaml", "--tsv-version", "v3")
    assert code == 2
    assert "'v3'" in err
