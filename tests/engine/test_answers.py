"""Answering a benchmark's questions: nothing is asked twice, nothing is lost, whoever answers."""

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from glip.engine.answers import AnswerRun, Processes, cut
from glip.errors import DataError, FileError, ImageError
from glip.evaluation.benchmark import Benchmark, Question, Record, Vocabulary
from glip.evaluation.coco import CocoBenchmark
from glip.evaluation.grounding import GroundingBenchmark
from glip.predictor import Predictor
from glip.structures.prompt import Phrase, Prompt
from tests.cli.quick import quick_predictor

SETTINGS = {"model": "made up", "chunk_size": None}
CAT = Prompt("a cat", (Phrase("a cat", ((0, 5),), 0),))
PETS = Vocabulary(("cat", "dog"), (1, 2))


class StoppedError(Exception):
    """What an interruption looks like from inside."""


class StopsAfter(Predictor):
    """A predictor that is interrupted after some pictures."""

    def __init__(self, inner: Predictor, pictures: int) -> None:
        super().__init__(inner.model, inner.processor, batch_size=inner.batch_size)
        self.left = pictures

    def detect(self, images: Any, labels: Any, **options: Any) -> Any:
        """What the inner one finds, until the pictures are used up."""
        if self.left < len(images):
            raise StoppedError
        self.left -= len(images)
        return super().detect(images, labels, **options)


@pytest.fixture(scope="module")
def quick(predictor: Predictor) -> Predictor:
    return quick_predictor(predictor, batch_size=2)


@pytest.fixture(scope="module")
def photos_json(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Six small pictures: three photos, upright and mirrored."""
    folder = tmp_path_factory.mktemp("data")
    images = []
    for number, name in enumerate(("astronaut.jpg", "chelsea.jpg", "coffee.jpg")):
        with Image.open(photos / name) as photo:
            small = photo.resize((96 + 16 * number, 96))
        for turn, picture in enumerate((small, small.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
            key = 2 * number + turn + 1
            picture.save(folder / f"{key}.png")
            images.append({"id": key, "file_name": f"{key}.png", "width": picture.width, "height": picture.height})
    content = {"images": images, "annotations": [], "categories": [{"id": 3, "name": "cup"}, {"id": 1, "name": "cat"}]}
    (folder / "dev.json").write_text(json.dumps(content))
    return folder / "dev.json"


def run(
    photos_json: Path, predictor: Predictor, target: Path, *, processes: Processes | None = None, **settings: Any
) -> list[Record] | None:
    benchmark = CocoBenchmark(annotations=photos_json)
    return AnswerRun(benchmark, predictor, target, {**SETTINGS, **settings}, 0, processes or Processes()).answer_all()


def test_every_picture_is_answered_in_the_files_order(photos_json: Path, quick: Predictor, tmp_path: Path) -> None:
    answers = run(photos_json, quick, tmp_path / "a.jsonl")
    assert answers is not None
    assert [answer["image_id"] for answer in answers] == [1, 2, 3, 4, 5, 6]
    assert {label for answer in answers for label in answer["labels"]} <= {1, 2}
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == answers
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "a.partial"}  # until there are results


def test_a_run_that_was_interrupted_at_half_gives_the_same_file(
    photos_json: Path, quick: Predictor, tmp_path: Path
) -> None:
    run(photos_json, quick, tmp_path / "whole.jsonl")
    with pytest.raises(StoppedError):
        run(photos_json, StopsAfter(quick, 4), tmp_path / "halves.jsonl")
    assert not (tmp_path / "halves.jsonl").exists()
    rest = StopsAfter(quick, 2)  # the two that are left, no more
    run(photos_json, rest, tmp_path / "halves.jsonl")
    assert (tmp_path / "halves.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_line_that_was_cut_off_is_asked_again(photos_json: Path, quick: Predictor, tmp_path: Path) -> None:
    run(photos_json, quick, tmp_path / "whole.jsonl")
    with pytest.raises(StoppedError):
        run(photos_json, StopsAfter(quick, 2), tmp_path / "cut.jsonl")
    (part,) = (tmp_path / "cut.partial").glob("*.jsonl")
    part.write_bytes(part.read_bytes()[:-20])
    run(photos_json, quick, tmp_path / "cut.jsonl")
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_any_number_of_processes_gives_the_same_file(
    photos_json: Path, quick: Predictor, tmp_path: Path, count: int
) -> None:
    run(photos_json, quick, tmp_path / "one.jsonl")
    results = share(photos_json, [quick] * count, tmp_path / "many.jsonl")
    assert results.count(None) == count - 1
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_one_process_finishes_what_two_began(photos_json: Path, quick: Predictor, tmp_path: Path) -> None:
    run(photos_json, quick, tmp_path / "one.jsonl")
    share(photos_json, [StopsAfter(quick, 2), StopsAfter(quick, 0)], tmp_path / "two.jsonl", stopped=True)
    run(photos_json, StopsAfter(quick, 4), tmp_path / "two.jsonl")
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def share(
    photos_json: Path, predictors: Sequence[Predictor], target: Path, *, stopped: bool = False
) -> list[list[Record] | None]:
    """Threads that meet where processes would; all of them stop, or none."""
    meeting = threading.Barrier(len(predictors))
    results: list[list[Record] | None] = []

    def work(rank: int) -> None:
        def wait() -> None:
            meeting.wait(timeout=60)

        try:
            results.append(run(photos_json, predictors[rank], target, processes=Processes(rank, len(predictors), wait)))
        except StoppedError:
            assert stopped

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(predictors))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_an_unfinished_run_does_not_go_on_with_other_settings(
    photos_json: Path, quick: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        run(photos_json, StopsAfter(quick, 2), tmp_path / "a.jsonl")
    with pytest.raises(FileError, match=r"a\.partial: .*another chunk_size \(None, now 40\)"):
        run(photos_json, quick, tmp_path / "a.jsonl", chunk_size=40)


def test_a_picture_that_cannot_be_read_stops_the_run_and_answers_are_kept(
    photos_json: Path, quick: Predictor, tmp_path: Path
) -> None:
    content = json.loads(photos_json.read_text())
    content["images"][4]["file_name"] = "broken.png"
    broken = photos_json.with_name("broken.json")
    broken.write_text(json.dumps(content))
    photos_json.with_name("broken.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        run(broken, quick, tmp_path / "a.jsonl")
    (part,) = (tmp_path / "a.partial").glob("*.jsonl")
    assert len(part.read_text().splitlines()) == 4


def test_reading_pictures_in_other_processes_changes_nothing(
    photos_json: Path, quick: Predictor, tmp_path: Path
) -> None:
    run(photos_json, quick, tmp_path / "none.jsonl")
    AnswerRun(
        CocoBenchmark(annotations=photos_json), quick, tmp_path / "one.jsonl", SETTINGS, 1, Processes()
    ).answer_all()
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "none.jsonl").read_bytes()


def test_a_file_without_images_gives_an_empty_file(quick: Predictor, tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}')
    assert run(tmp_path / "dev.json", quick, tmp_path / "a.jsonl") == []
    assert (tmp_path / "a.jsonl").read_text() == ""


def test_a_sentence_without_phrases_is_not_asked(quick: Predictor, tmp_path: Path) -> None:
    """Its picture need not even be there."""
    image = {"id": 7, "file_name": "nowhere.png", "width": 10, "height": 10, "caption": "nothing to see"}
    (tmp_path / "dev.json").write_text(json.dumps({"images": [image], "annotations": []}))
    benchmark: Benchmark = GroundingBenchmark(annotations=tmp_path / "dev.json")
    answers = AnswerRun(benchmark, quick, tmp_path / "a.jsonl", SETTINGS, 0, Processes()).answer_all()
    assert answers == [{"image_id": 7, "phrases": []}]


# --- batches -----------------------------------------------------------------------------------------------------


def asked(key: int, words: Vocabulary | Prompt | None = PETS) -> Question:
    return Question((key,), Path(f"{key}.png"), words)


@pytest.mark.parametrize(
    ("questions", "sizes"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([asked(1), asked(2), asked(3)], [2, 1], id="one vocabulary"),
        pytest.param([asked(1, CAT), asked(2, replace(CAT, caption="a cat "))], [2], id="prompts of their own"),
        pytest.param([asked(1), asked(2, CAT), asked(3)], [1, 1, 1], id="lists and prompts apart"),
        pytest.param([asked(1), asked(2, replace(PETS, chunk_size=1))], [1, 1], id="two vocabularies apart"),
        pytest.param([asked(1, None), asked(2, CAT)], [1, 1], id="nothing to ask apart"),
    ],
)
def test_batches_of_two_of(questions: list[Question], sizes: list[int]) -> None:
    batches = cut(questions, 2)
    assert [len(batch) for batch in batches] == sizes
    assert [question for batch in batches for question in batch] == questions


def test_two_questions_of_one_key_are_refused() -> None:
    with pytest.raises(DataError, match=r"two questions have the key \(1,\)"):
        cut([asked(1), asked(1)], 4)


def test_one_program_alone_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = Processes.launched(torch.device("cpu"))
    assert (processes.rank, processes.count, processes.is_first) == (0, 1, True)
