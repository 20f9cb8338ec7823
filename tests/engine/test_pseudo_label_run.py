"""A run may be stopped at any moment and shared out: the files in the end are the same, byte for byte."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from glip.data.pairs import Pair
from glip.engine.pseudo_label_run import PseudoLabelOptions, Shard, pseudo_label
from glip.engine.pseudo_labels import PseudoLabelRule, SecondOpinion
from glip.errors import ConfigError, FileError
from glip.images import read_image
from glip.structures.detections import Detections
from glip.structures.prompt import Prompt

CAPTIONS = ("a cat on a sofa", "a dog", "it is", "two cats and a dog", "a ball near a cat", "a sofa", "a cat", "a dog")
NAMES = {"p.jsonl", "p.report.json", "p.kept.jpg", "p.dropped.jpg"}
BATCHES_OF_TWO = PseudoLabelOptions(batch_size=2)


class HandTeacher:
    """Finds cats at 0.9, dogs at 0.4 and no sofas; balls are no word that it knows. A call may be its last."""

    def __init__(self, *, dies_at: int | None = None) -> None:
        self.calls = 0
        self.dies_at = dies_at

    def knows(self, phrase: str) -> bool:
        """All words but balls."""
        return "ball" not in phrase

    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Detections]:
        """A box of the left half for each cat and dog."""
        self.calls += 1
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        return [self._find(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]

    def _find(self, picture: Image.Image, prompt: Prompt) -> Detections:
        texts = tuple(phrase.text for phrase in prompt.phrases)
        scores = [0.9 if "cat" in text else 0.4 for text in texts]
        labels = [label for label, text in enumerate(texts) if "cat" in text or "dog" in text]
        boxes = torch.tensor([[1.0, 2.0, picture.width / 2, 20.0 + label] for label in labels]).view(-1, 4)
        return Detections(
            boxes, torch.tensor([scores[label] for label in labels]), torch.tensor(labels, dtype=torch.int64), texts
        )

    def settings(self) -> dict[str, Any]:
        """Nothing that changes."""
        return {"teacher": "by hand"}


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """Eight pictures of 40 x 30 pixels; the sixth cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(len(CAPTIONS)):
        Image.new("RGB", (40, 30), (20 * number, 90, 90)).save(folder / f"{number}.png")
    (folder / "5.png").write_bytes(b"no picture")
    return [Pair(f"{n}.png", folder / f"{n}.png", caption) for n, caption in enumerate(CAPTIONS)]


def run(pairs: list[Pair], output: Path, options: PseudoLabelOptions = BATCHES_OF_TWO) -> dict[str, Any]:
    return pseudo_label(pairs, HandTeacher(), output, options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(pairs: list[Pair], tmp_path: Path) -> dict[str, bytes]:
    """What a run that nobody stopped writes."""
    (tmp_path / "whole").mkdir()
    run(pairs, tmp_path / "whole" / "p.jsonl")
    return contents(tmp_path / "whole")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def test_kept_pairs_are_written_in_order(whole: dict[str, bytes]) -> None:
    records = [json.loads(line) for line in whole["p.jsonl"].splitlines()]
    assert whole.keys() == NAMES
    assert [record["filename"] for record in records] == ["0.png", "3.png", "4.png", "6.png"]
    assert records[1]["grounding"]["regions"] == [
        {"phrase": "two cats", "tokens_positive": [[0, 8]], "bbox": [[1.0, 2.0, 20.0, 20.0]], "scores": [0.9]}
    ]


def test_the_report_counts_every_fate(whole: dict[str, bytes]) -> None:
    report = json.loads(whole["p.report.json"])
    problems = {"no noun phrase in the caption": 1, "no phrase was kept": 2, "picture cannot be read": 1}
    assert report["pairs"] == {"all": 8, "kept": 4, "dropped": problems}
    reasons = {"nothing found": 1, "unknown word": 1, "unsure": 3}
    assert report["phrases"] == {"all": 9, "kept": 4, "dropped": reasons}
    assert report["boxes"] == {"all": 7, "kept": 4, "dropped": {"unsure": 3}}
    assert report["best_scores"] == {"kept": [0] * 9 + [4], "dropped": [0] * 4 + [3] + [0] * 5}
    assert report["most_kept"] == [["a cat", 3], ["two cats", 1]]
    assert report["most_dropped"][0] == ["a dog", 3]
    (problem,) = report["problems"]
    assert problem.startswith("pair 5: ")
    assert report["settings"]["teacher"] == {"teacher": "by hand"}


def test_both_sheets_show_pictures(whole: dict[str, bytes], tmp_path: Path) -> None:
    kept, dropped = (read_image(tmp_path / "whole" / f"p.{name}.jpg") for name in ("kept", "dropped"))
    assert kept.size == (1280, 320)
    assert dropped.size == (1280, 320)


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
def test_a_run_that_died_goes_on_to_the_same_files(
    dies_at: int, pairs: list[Pair], whole: dict[str, bytes], place: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        pseudo_label(pairs, HandTeacher(dies_at=dies_at), place / "p.jsonl", BATCHES_OF_TWO)
    assert {path.name for path in place.iterdir()} == {"p.partial"}
    again = HandTeacher()
    pseudo_label(pairs, again, place / "p.jsonl", BATCHES_OF_TWO)
    assert again.calls == 4 - (dies_at - 1)
    assert contents(place) == whole


def test_answers_cut_at_any_byte_are_asked_again(pairs: list[Pair], whole: dict[str, bytes], place: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pseudo_label(pairs, HandTeacher(dies_at=3), place / "p.jsonl", BATCHES_OF_TWO)
    partial = place / "p.partial"
    settings, answers = ((partial / name).read_bytes() for name in ("settings.json", "answers.jsonl"))
    for length in range(0, len(answers), 37):
        for old in NAMES:
            (place / old).unlink(missing_ok=True)
        partial.mkdir(exist_ok=True)
        (partial / "settings.json").write_bytes(settings)
        (partial / "answers.jsonl").write_bytes(answers[:length])
        run(pairs, place / "p.jsonl")
        assert contents(place) == whole


def test_a_kill_between_the_files_and_the_end_changes_nothing(
    pairs: list[Pair], whole: dict[str, bytes], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("glip.engine.pseudo_label_run.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            run(pairs, place / "p.jsonl")
    assert (place / "p.partial").is_dir()
    run(pairs, place / "p.jsonl")
    assert contents(place) == whole


def test_answers_without_their_settings_are_forgotten(pairs: list[Pair], whole: dict[str, bytes], place: Path) -> None:
    (place / "p.partial").mkdir()
    (place / "p.partial" / "answers.jsonl").write_text('{"number": 0, "problem": "of another run"}\n' * 4)
    run(pairs, place / "p.jsonl")
    assert contents(place) == whole


@pytest.mark.parametrize("count", [2, 3, 9])
def test_the_shards_one_after_the_other_are_the_whole(
    count: int, pairs: list[Pair], whole: dict[str, bytes], place: Path
) -> None:
    written = b""
    for number in range(1, count + 1):
        shard = Shard(number, count)
        output = shard.name(place / "p.jsonl")
        run(pairs, output, PseudoLabelOptions(shard=shard, batch_size=2))
        written += output.read_bytes()
    assert written == whole["p.jsonl"]
    assert (place / f"p.1-of-{count}.report.json").is_file()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_finished_file_stays_unless_told(name: str, pairs: list[Pair], whole: dict[str, bytes], place: Path) -> None:
    (place / name).write_text("mine")
    with pytest.raises(FileError, match="exists already"):
        run(pairs, place / "p.jsonl")
    assert contents(place) == {name: b"mine"}
    run(pairs, place / "p.jsonl", PseudoLabelOptions(batch_size=2, overwrite=True))
    assert contents(place) == whole


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        pytest.param(PseudoLabelOptions(batch_size=1), r"another batch_size \(2, now 1\)", id="batches"),
        pytest.param(
            PseudoLabelOptions(PseudoLabelRule(confidence=0.4), batch_size=2), "another rule", id="a lower confidence"
        ),
        pytest.param(
            PseudoLabelOptions(second_opinion=SecondOpinion(lambda *_: [], "CLIP"), batch_size=2),
            r"another second_opinion \(None, now 'CLIP'\)",
            id="a second opinion",
        ),
    ],
)
def test_an_unfinished_run_goes_on_with_the_same_settings_only(
    options: PseudoLabelOptions, changed: str, pairs: list[Pair], place: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        pseudo_label(pairs, HandTeacher(dies_at=2), place / "p.jsonl", BATCHES_OF_TWO)
    with pytest.raises(FileError, match=changed):
        run(pairs, place / "p.jsonl", options)
    with pytest.raises(FileError, match="another pairs_fingerprint"):
        run([*pairs[1:], pairs[0]], place / "p.jsonl")


def test_no_pairs_give_empty_files(place: Path) -> None:
    report = run([], place / "p.jsonl")
    assert (place / "p.jsonl").read_text() == ""
    assert report["pairs"] == {"all": 0, "kept": 0, "dropped": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("0/4", "from 1/N to N/N, got 0/4", id="the shard before the first"),
        pytest.param("5/4", "from 1/N to N/N, got 5/4", id="one too many"),
        pytest.param("", "must be NUMBER/COUNT, as in 1/4, got ''", id="nothing"),
        pytest.param("1-4", "must be NUMBER/COUNT", id="another sign"),
    ],
)
def test_a_shard_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shard.parse(text)


def test_impossible_runs_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        PseudoLabelOptions(batch_size=0)
    with pytest.raises(ConfigError, match="tsv_version must be 'v1' or 'v2'"):
        PseudoLabelOptions(tsv_version="v3")  # type: ignore[arg-type]
