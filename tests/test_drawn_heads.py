"""The data that GLIPv2's heads are trained on here, and the tool that measures them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.data.drawn_scenes import DEV_SEEDS, TRAIN_SEEDS, draw_scene
from glip.data.readers import read_detection_json, read_grounding_json
from glip.engine.config import read_config
from glip.errors import FileError
from glip.images import read_image
from glip.predictor import Predictor
from glip.processing import GlipImageProcessor, GlipProcessor
from tests.reference.tiny_models import TINY_TEXT, tiny_model
from tools.evaluate_heads import GREY, Measurement, Scenes
from tools.make_drawn_data import main, write_scenes
from tools.start_drawn import SIDE, write_start

CONFIGS = Path(__file__).parents[1] / "configs"
SEEDS = DEV_SEEDS[:3]
HEADS: dict[str, dict[str, Any]] = {
    "masks": {"channels": 16, "layers": 1},
    "mlm": {},
    "captioning": {"layers": 1, "max_tokens": 8},
    "vqa": {"answers": ["yes", "no", "red"], "width": 16, "layers": 1},
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "dev"
    write_scenes(folder, SEEDS, side=64)
    return folder


@pytest.fixture(scope="module")
def measurement(scenes: Path, predictor: Predictor) -> Measurement:
    """An untrained network with every head that is measured."""
    tokenizer = predictor.processor.tokenizer
    torch.manual_seed(0)
    model = tiny_model("csp", top_down=False, text={**TINY_TEXT, "vocab_size": len(tokenizer)}).with_heads(HEADS)
    processor = GlipProcessor(GlipImageProcessor(short_side=64, max_side=64), tokenizer)
    return Measurement(Predictor(model, processor, batch_size=2), Scenes(scenes, 3), Scenes(scenes, 3))


def test_a_scene_is_read_back_as_it_was_drawn(scenes: Path) -> None:
    examples = read_detection_json(scenes / "scenes.json")
    assert len(examples) == len(SEEDS)
    for example, seed in zip(examples, SEEDS, strict=True):
        scene = draw_scene(seed, side=64)
        assert example.description == scene.caption.caption
        assert [thing.name for thing in example.objects] == [thing.name for thing in scene.things]
        assert [thing.box for thing in example.objects] == [thing.box for thing in scene.things]
        masks = torch.stack([thing.mask.draw((64, 64)) for thing in example.objects if thing.mask is not None])
        assert torch.equal(masks, scene.masks)


def test_colours_are_part_of_the_names_in_a_file_of_their_own(scenes: Path) -> None:
    examples = read_detection_json(scenes / "coloured.json")
    for example, seed in zip(examples, SEEDS, strict=True):
        things = draw_scene(seed, side=64).things
        assert [(thing.name, thing.box) for thing in example.objects] == [(thing.called, thing.box) for thing in things]


def test_phrases_stand_where_their_spans_say(scenes: Path) -> None:
    examples = read_grounding_json(scenes / "grounding.json")
    told = {sentence.caption for seed in SEEDS for sentence in draw_scene(seed, side=64).sentences}
    assert told <= {example.caption for example in examples}
    for example in examples:
        for thing in example.objects:
            assert [(example.caption or "")[start:end] for start, end in thing.spans] == [thing.name]


def test_an_answer_with_a_box_is_a_phrase_behind_its_question(scenes: Path) -> None:
    asked = [question for seed in SEEDS for question in draw_scene(seed, side=64).questions if question.box]
    found = {example.caption: example.objects for example in read_grounding_json(scenes / "grounding.json")}
    assert asked
    for question in asked:
        (thing,) = found[f"{question.text} {question.answer}"]
        assert (thing.name, thing.box) == (question.answer, question.box)


def test_a_question_alone_has_the_boxes_of_what_it_asks_about(scenes: Path) -> None:
    truth = [question for seed in SEEDS for question in draw_scene(seed, side=64).questions]
    examples = read_grounding_json(scenes / "asked.json")
    assert [example.caption for example in examples] == [question.text for question in truth]
    for example, question in zip(examples, truth, strict=True):
        assert [thing.box for thing in example.objects] == list(question.about)
        assert {thing.name for thing in example.objects} <= {question.words}


def test_each_question_has_its_answer_and_its_kind(scenes: Path) -> None:
    records = json.loads((scenes / "questions.json").read_text())["images"]
    truth = [question for seed in SEEDS for question in draw_scene(seed, side=64).questions]
    assert [(record["question"], record["answers"], record["kind"]) for record in records] == [
        (question.text, [question.answer], question.kind) for question in truth
    ]
    assert [example.question for example in read_detection_json(scenes / "questions.json")] == [q.text for q in truth]


def test_no_scene_is_an_empty_file(tmp_path: Path) -> None:
    write_scenes(tmp_path / "none", [], side=64)
    assert read_detection_json(tmp_path / "none" / "scenes.json") == []


def test_a_folder_is_not_written_over(scenes: Path) -> None:
    with pytest.raises(FileError, match="exists already; give a new folder"):
        write_scenes(scenes, SEEDS, side=64)


def test_training_and_measuring_have_other_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--output", str(tmp_path / "drawn"), "--train", "2", "--dev", "1", "--side", "64"]
    monkeypatch.setattr("sys.argv", ["make_drawn_data.py", *arguments])
    assert main() == 0
    pictures = {
        part: {path.stem for path in (tmp_path / "drawn" / part / "pictures").iterdir()} for part in ("train", "dev")
    }
    assert pictures == {"train": {str(seed) for seed in TRAIN_SEEDS[:2]}, "dev": {str(DEV_SEEDS[0])}}


def test_the_start_is_a_network_for_pictures_of_the_scenes_size(tmp_path: Path) -> None:
    write_start(tmp_path / "start")
    predictor = Predictor.from_pretrained(tmp_path / "start")
    assert predictor.processor.image_processor.short_side == SIDE
    assert predictor.model.config.heads == {}
    with pytest.raises(FileError, match="exists already; give a new folder"):
        write_start(tmp_path / "start")


def test_the_configs_know_every_answer() -> None:
    asked = {question.answer for seed in TRAIN_SEEDS[:300] for question in draw_scene(seed, side=64).questions}
    for name in ("heads_vqa", "heads_all"):
        assert asked <= set(read_config(CONFIGS / f"{name}.yaml").heads["vqa"]["answers"])


def test_a_limit_cuts_scenes_with_all_that_is_said_of_them(scenes: Path) -> None:
    first = f"pictures/{SEEDS[0]}.png"
    for name in ("scenes", "grounding", "questions"):
        part = Scenes(scenes, 1).part(name)
        assert {record["file_name"] for record in part["images"]} == {first}
        assert {a["image_id"] for a in part["annotations"]} <= {record["id"] for record in part["images"]}


def test_the_blind_see_grey(scenes: Path) -> None:
    some = Scenes(scenes, 3)
    records = some.part("scenes")["images"]
    assert all(picture.getcolors() == [(64 * 64, GREY)] for picture in some.pictures(records, blind=True))
    seen = read_image(scenes / records[0]["file_name"])
    assert some.pictures(records, blind=False)[0].tobytes() == seen.tobytes()


def test_a_filled_box_overlaps_a_thing_by_the_share_that_it_covers(measurement: Measurement) -> None:
    shares = []
    for seed in SEEDS:
        scene = draw_scene(seed, side=64)
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            x1, y1, x2, y2 = (int(edge) for edge in thing.box)
            shares.append(mask.sum().item() / ((x2 - x1) * (y2 - y1)))
    found = measurement.masks(False)["IoU in true boxes"]["whole box"]
    assert found == pytest.approx(sum(shares) / len(shares), abs=1e-6)


def test_every_head_gets_its_numbers_beside_the_blind_ones(measurement: Measurement) -> None:
    report = measurement.report()
    assert report["scenes"] == 3
    assert {name for name, part in report.items() if name != "scenes" and {"model", "blind"} <= part.keys()} == {
        *("boxes", "phrases", "masks", "captioning", "vqa", "mlm")
    }
    assert report["vqa"]["model"]["questions"] == sum(len(draw_scene(seed, side=64).questions) for seed in SEEDS)
    assert report["mlm"]["model"]["words"] == report["mlm"]["blind"]["words"] > 0
    assert report["mlm"]["model"]["loss"] != report["mlm"]["blind"]["loss"]


def test_one_part_can_be_measured_alone(measurement: Measurement) -> None:
    assert set(measurement.report(["boxes"])) == {"scenes", "boxes"}


def test_the_commonest_answers_are_those_of_each_kind(measurement: Measurement, tmp_path: Path) -> None:
    def question(number: int, kind: str, answer: str) -> dict[str, Any]:
        picture = {"id": number, "file_name": f"{number}.png", "width": 64, "height": 64}
        return {**picture, "question": "what", "answers": [answer], "kind": kind, "box": None}

    given = [("colour", "red"), ("colour", "red"), ("colour", "blue"), ("count", "2")]
    asked = [("colour", "red"), ("colour", "blue"), ("count", "2"), ("count", "2")]
    for part, pairs in (("train", given), ("dev", asked)):
        (tmp_path / part).mkdir()
        images = [question(number, kind, answer) for number, (kind, answer) in enumerate(pairs)]
        content = {"images": images, "annotations": [], "categories": []}
        (tmp_path / part / "questions.json").write_text(json.dumps(content))
    dev, train = (Scenes(tmp_path / part, 9) for part in ("dev", "train"))
    assert Measurement(measurement.predictor, dev, train).commonest_answers() == {
        "accuracy": 0.75,
        "accuracy, colour": 0.5,
        "accuracy, count": 1.0,
    }
