"""What each benchmark asks a model, and how it writes the answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.errors import DataError, FileError
from glip.evaluation.benchmark import Benchmark, Question, Vocabulary
from glip.evaluation.coco import CocoBenchmark
from glip.evaluation.flickr30k import Flickr30kBenchmark, read_entities
from glip.evaluation.grounding import GroundingBenchmark, read_grounding_truth
from glip.evaluation.lvis_benchmark import LvisBenchmark
from glip.evaluation.refcoco import RefCocoBenchmark
from glip.structures.detections import Detections
from glip.structures.prompt import Prompt, phrase_texts

GOLDEN = Path(__file__).parent / "golden"
SENTENCE = "a man holds a red ball near a man"


def write(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def image(key: int, name: str = "a.jpg", **fields: Any) -> dict[str, Any]:
    return {"id": key, "file_name": name, "height": 60, "width": 80, **fields}


def found(*labels: int, phrases: int = 2) -> Detections:
    """Boxes of one pixel more each, with falling scores."""
    count = len(labels)
    boxes = torch.tensor([[0.0, 0.0, n + 1.0, n + 2.0] for n in range(count)]).view(-1, 4)
    scores = torch.tensor([1 - 0.25 * n for n in range(count)])
    return Detections(boxes, scores, torch.tensor(labels, dtype=torch.int64), tuple("ab"[:phrases]))


def only(benchmark: Benchmark) -> Question:
    (question,) = benchmark.questions()
    return question


# --- detection ---------------------------------------------------------------------------------------------------


def test_coco_asks_for_all_classes_in_the_files_order_and_counts_labels_from_one(tmp_path: Path) -> None:
    categories = [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]
    path = write(tmp_path / "a.json", images=[image(5)], annotations=[], categories=categories)
    benchmark = CocoBenchmark(annotations=path, images=Path("photos"))
    question = only(benchmark)
    assert question == Question((5,), Path("photos/a.jpg"), Vocabulary(("dog", "car"), (1, 2)))
    assert benchmark.answer(question, found(1, 0)) == {
        "image_id": 5,
        "boxes": [[0, 0, 1, 2], [0, 0, 2, 3]],
        "scores": [1.0, 0.75],
        "labels": [2, 1],
    }


def test_an_unused_background_is_no_class(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "creatures"}, {"id": 1, "name": "fish"}]
    path = write(tmp_path / "a.json", images=[image(5)], annotations=[], categories=categories)
    words = Vocabulary(("fish",), (2,))  # positions in the file still count it
    assert only(CocoBenchmark(annotations=path)).words == words


def test_coco_numbers_of_each_class_go_by_name(tmp_path: Path) -> None:
    box = {"id": 1, "image_id": 5, "category_id": 18, "bbox": [0, 0, 10, 10]}
    categories = [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]
    path = write(tmp_path / "a.json", images=[image(5)], annotations=[box], categories=categories)
    right = [{"image_id": 5, "boxes": [[0, 0, 10, 10]], "scores": [0.9], "labels": [1]}]
    assert CocoBenchmark(annotations=path).score(right)["per_class"] == {
        "dog": {"AP": pytest.approx(1.0), "AP50": pytest.approx(1.0)},
        "car": {"AP": -1.0, "AP50": -1.0},
    }
    nothing = CocoBenchmark(annotations=path).score([])
    assert nothing["per_class"]["dog"] == {"AP": 0.0, "AP50": 0.0}
    assert (nothing["APs"], nothing["APl"]) == (0.0, -1.0)  # there is no large box


@pytest.mark.parametrize("missing", ["images", "categories"])
def test_nothing_to_find_is_undefined(missing: str, tmp_path: Path) -> None:
    content: dict[str, Any] = {"images": [image(5)], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    path = write(tmp_path / "a.json", **{**content, missing: []})
    numbers = CocoBenchmark(annotations=path).score([])
    assert numbers["AP"] == -1.0


def test_classes_of_one_name_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    box = {"id": 1, "image_id": 5, "category_id": 3, "bbox": [0, 0, 10, 10]}
    categories = [{"id": 18, "name": "mouse"}, {"id": 3, "name": "mouse"}]
    path = write(tmp_path / "a.json", images=[image(5)], annotations=[box], categories=categories)
    assert list(CocoBenchmark(annotations=path).score([])["per_class"]) == ["mouse (3)", "mouse (18)"]


def test_annotations_may_have_any_numbers(tmp_path: Path) -> None:
    """Pycocotools takes number 0 for no match, and loses one of two equal ones."""
    boxes = [{"id": 0, "image_id": 5, "category_id": 3, "bbox": [20 * n, 0, 10, 10]} for n in range(2)]
    path = write(tmp_path / "a.json", images=[image(5)], annotations=boxes, categories=[{"id": 3, "name": "mouse"}])
    right = [{"image_id": 5, "boxes": [[0, 0, 10, 10], [20, 0, 30, 10]], "scores": [0.9, 0.8], "labels": [1, 1]}]
    assert CocoBenchmark(annotations=path).score(right)["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fields", "picture"),
    [
        pytest.param({"file_name": "val2017/9.jpg"}, "val2017/9.jpg", id="the file name"),
        pytest.param({"coco_url": "http://images.cocodataset.org/val2017/9.jpg"}, "val2017/9.jpg", id="the address"),
    ],
)
def test_lvis_asks_by_category_id_and_finds_pictures_by(fields: dict[str, str], picture: str, tmp_path: Path) -> None:
    record = {"id": 9, "height": 6, "width": 8, "neg_category_ids": [], "not_exhaustive_category_ids": [], **fields}
    categories = [{"id": 7, "name": "yak", "frequency": "r"}, {"id": 2, "name": "ant_(insect)", "frequency": "f"}]
    path = write(tmp_path / "a.json", images=[record], annotations=[], categories=categories)
    benchmark = LvisBenchmark(annotations=path, images=Path("coco"), chunk_size=40)
    question = only(benchmark)
    words = Vocabulary(("ant_(insect)", "yak"), (2, 7), chunk_size=40)
    assert question == Question((9,), Path("coco") / picture, words)
    assert benchmark.answer(question, found(1, 0))["labels"] == [7, 2]


# --- grounding ---------------------------------------------------------------------------------------------------


def grounding_file(path: Path, *annotations: tuple[list[int], list[list[int]]], **fields: Any) -> Path:
    records = [
        {
            "id": number,
            "image_id": 3,
            "category_id": 1,
            "bbox": bbox,
            "tokens_positive": spans,
            "kind": f"kind {number}",
        }
        for number, (bbox, spans) in enumerate(annotations)
    ]
    return write(path, images=[image(3, caption=SENTENCE, **fields)], annotations=records)


def test_each_different_set_of_spans_is_a_phrase(tmp_path: Path) -> None:
    path = grounding_file(
        tmp_path / "g.json", ([9, 9, 5, 5], [[12, 22]]), ([1, 2, 3, 4], [[0, 5]]), ([5, 5, 5, 5], [[0, 5]])
    )
    (sentence,) = read_grounding_truth(path).values()
    assert [(phrase.text, phrase.boxes.tolist()) for phrase in sentence.phrases] == [
        ("a man", [[1, 2, 4, 6], [5, 5, 10, 10]]),
        ("a red ball", [[9, 9, 14, 14]]),
    ]


def test_evaluated_phrases_take_every_box_that_shares_a_span(tmp_path: Path) -> None:
    """MDETR's converter merges nearly equal boxes, which then have the spans of both phrases."""
    path = grounding_file(
        tmp_path / "g.json", ([1, 2, 3, 4], [[0, 5], [12, 22]]), tokens_positive_eval=[[[0, 5]], [[12, 22]]]
    )
    (sentence,) = read_grounding_truth(path).values()
    assert [(phrase.text, len(phrase.boxes)) for phrase in sentence.phrases] == [("a man", 1), ("a red ball", 1)]


def test_the_order_of_spans_has_no_meaning(tmp_path: Path) -> None:
    spans = [[0, 5], [12, 22]]
    path = grounding_file(tmp_path / "g.json", ([1, 2, 3, 4], spans), ([5, 5, 5, 5], spans[::-1]))
    (sentence,) = read_grounding_truth(path).values()
    assert [(phrase.text, len(phrase.boxes)) for phrase in sentence.phrases] == [("a man a red ball", 2)]


def test_ids_are_compared_as_words(tmp_path: Path) -> None:
    benchmark = GroundingBenchmark(annotations=grounding_file(tmp_path / "g.json", ([1, 2, 3, 4], [[0, 5]])))
    answer = {"image_id": "3", "phrases": [{"boxes": [[1, 2, 4, 6]], "scores": [1.0]}]}
    assert benchmark.score([answer])["recall@1"] == {"all": 1.0}


def test_phrases_may_be_grouped_by_a_field(tmp_path: Path) -> None:
    path = grounding_file(tmp_path / "g.json", ([1, 2, 3, 4], [[0, 5]]), ([5, 5, 5, 5], [[0, 5]]))
    (sentence,) = read_grounding_truth(path, group_by="kind").values()
    assert sentence.phrases[0].kinds == ("kind 0", "kind 1")


def test_a_sentence_is_asked_with_its_evaluated_phrases(tmp_path: Path) -> None:
    path = grounding_file(tmp_path / "g.json", ([1, 2, 3, 4], [[0, 5]]), ([5, 5, 5, 5], [[12, 22]]))
    benchmark = GroundingBenchmark(annotations=path)
    question = only(benchmark)
    assert (question.key, question.image) == ((3,), tmp_path / "a.jpg")
    assert isinstance(question.words, Prompt)
    assert question.words.caption == SENTENCE
    assert phrase_texts([question.words]) == ("a man", "a red ball")
    answer = benchmark.answer(question, found(1, 0, 1))
    assert answer == {
        "image_id": 3,
        "phrases": [
            {"phrase": "a", "boxes": [[0, 0, 2, 3]], "scores": [0.75]},
            {"phrase": "b", "boxes": [[0, 0, 1, 2], [0, 0, 3, 4]], "scores": [1.0, 0.5]},
        ],
    }
    assert benchmark.score([answer])["totals"] == {"all": 2}


def test_flickr30ks_own_sentences_are_those_of_mdetrs_files() -> None:
    own = read_entities(GOLDEN / "flickr30k", "test")
    annotations = GOLDEN / "flickr30k/mdetr_annotations/final_flickr_separateGT_test.json"
    converted = Flickr30kBenchmark(annotations=annotations).truth
    assert own.keys() == converted.keys()
    for key, sentence in own.items():
        assert sentence.caption == converted[key].caption
        assert sentence.image == converted[key].image
        assert [p.spans for p in sentence.phrases] == [p.spans for p in converted[key].phrases]


def test_flickr30k_answers_by_image_and_sentence() -> None:
    benchmark = Flickr30kBenchmark(annotations=GOLDEN / "flickr30k", images=Path("photos"))
    question = next(question for question in benchmark.questions() if question.words is not None)
    assert question.image == Path("photos") / f"{question.key[0]}.jpg"
    record = benchmark.answer(question, found(0, phrases=1))
    assert (record["image_id"], record["sentence_id"]) == question.key


def test_refcoco_asks_with_the_whole_expression_and_takes_every_box(tmp_path: Path) -> None:
    box = {"id": 1, "image_id": 3, "bbox": [1, 2, 3, 4]}
    path = write(tmp_path / "r.json", images=[image(3, caption="left cat")], annotations=[box])
    benchmark = RefCocoBenchmark(annotations=path)
    question = only(benchmark)
    assert isinstance(question.words, Prompt)
    assert question.words.phrases[0].spans == ((0, 8),)
    assert benchmark.expressions
    assert benchmark.answer(question, found(0, phrases=1)) == {"image_id": 3, "boxes": [[0, 0, 1, 2]], "scores": [1.0]}


# --- broken files ------------------------------------------------------------------------------------------------

GOOD = {
    "images": [{**image(5, caption=SENTENCE), "neg_category_ids": [], "not_exhaustive_category_ids": []}],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "tokens_positive": [[0, 5]]}
    ],
    "categories": [{"id": 1, "name": "cat", "frequency": "r"}],
}
KINDS: dict[str, type[Benchmark]] = {
    "coco": CocoBenchmark,
    "lvis": LvisBenchmark,
    "grounding": GroundingBenchmark,
    "refcoco": RefCocoBenchmark,
}


def changed(section: str, **fields: Any) -> dict[str, Any]:
    """The good file with fields of a section's one record replaced; None takes a field out."""
    record = {name: value for name, value in {**GOOD[section][0], **fields}.items() if value is not None}
    return {**GOOD, section: [record]}


@pytest.mark.parametrize("kind", KINDS)
def test_the_good_file_is_taken_by(kind: str, tmp_path: Path) -> None:
    benchmark = KINDS[kind](annotations=write(tmp_path / "a.json", **GOOD))  # type: ignore[call-arg]
    assert len(benchmark.questions()) == 1
    answers = [benchmark.answer(question, found(0, phrases=1)) for question in benchmark.questions()]
    assert benchmark.score(answers)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        pytest.param("coco", {**GOOD, "images": 3}, "a.json: 'images' must be a list", id="images that are no list"),
        pytest.param("coco", changed("images", id=None), "images record .*'id' is missing", id="an image without id"),
        pytest.param("coco", changed("images", file_name=None), "5: field 'file_name' is missing", id="no file name"),
        pytest.param("coco", changed("annotations", bbox=None), "annotations record 1: field 'bbox'", id="no box"),
        pytest.param("coco", changed("annotations", bbox=[1, 2]), "annotation 1: bbox must be", id="half a box"),
        pytest.param("coco", changed("annotations", image_id=6), "image_id 6 is not in images", id="a foreign image"),
        pytest.param("coco", changed("annotations", category_id=6), "category_id 6 is not in", id="a foreign class"),
        pytest.param("coco", changed("categories", name=None), "categories record 1: field 'name'", id="no name"),
        pytest.param(
            "coco", {**GOOD, "categories": GOOD["categories"] * 2}, "id 1 stands there twice", id="an id twice"
        ),
        pytest.param("lvis", changed("categories", frequency="x"), "category 1: frequency must be", id="no frequency"),
        pytest.param(
            "lvis", changed("images", neg_category_ids=None), "5: field 'neg_category_ids'", id="no negatives"
        ),
        pytest.param("lvis", changed("annotations", area=None), "annotations record 1: field 'area'", id="no area"),
        pytest.param("lvis", changed("annotations", category_id=6), "category_id 6 is not in", id="a foreign category"),
        pytest.param("grounding", changed("images", caption=None), "5: field 'caption' is missing", id="no caption"),
        pytest.param(
            "grounding", changed("annotations", tokens_positive=[[0, 99]]), "spans of the caption", id="a span outside"
        ),
        pytest.param(
            "grounding",
            changed("images", tokens_positive_eval=[[[3, 3]]]),
            "5: tokens_positive_eval must be",
            id="an empty span",
        ),
        pytest.param("coco", changed("annotations", area="big"), "area must be a number", id="a word as area"),
        pytest.param("coco", changed("annotations", iscrowd=2), "iscrowd must be 0 or 1, got 2", id="crowd 2"),
        pytest.param("coco", changed("annotations", category_id=[1]), "category_id must be", id="a list as class"),
        pytest.param("coco", changed("categories", name=5), "name must be a word", id="a number as name"),
        pytest.param("coco", {**GOOD, "images": GOOD["images"] * 2}, "id 5 stands there twice", id="an image twice"),
        pytest.param("coco", {**GOOD, "annotations": "x"}, "'annotations' must be a list", id="a word as annotations"),
        pytest.param("lvis", changed("categories", id="1"), "categories id must be a whole number", id="a word as id"),
        pytest.param("lvis", changed("images", neg_category_ids=[[1]]), "must be a list", id="lists as negatives"),
        pytest.param(
            "grounding", changed("images", tokens_positive_eval=[[[28, 33]]]), "no annotation has the span", id="no box"
        ),
        pytest.param("refcoco", {**GOOD, "annotations": []}, "needs one annotation, has 0", id="nothing referred to"),
        pytest.param(
            "refcoco", {**GOOD, "annotations": GOOD["annotations"] * 2}, "needs one annotation, has 2", id="two boxes"
        ),
        pytest.param("refcoco", changed("annotations", bbox="x"), "annotation 1: bbox must be", id="a word as box"),
        pytest.param("refcoco", changed("images", caption=None), "5: field 'caption' is missing", id="no expression"),
    ],
)
def test_a_file_is_refused_for(kind: str, content: dict[str, Any], message: str, tmp_path: Path) -> None:
    benchmark = KINDS[kind](annotations=write(tmp_path / "a.json", **content))  # type: ignore[call-arg]
    with pytest.raises(DataError, match=message):
        benchmark.score([benchmark.answer(question, found(0, phrases=1)) for question in benchmark.questions()])


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named_by(kind: str, tmp_path: Path) -> None:
    benchmark = KINDS[kind](annotations=tmp_path / "nowhere.json")  # type: ignore[call-arg]
    with pytest.raises(FileError, match=r"nowhere\.json: no such annotation file"):
        benchmark.questions()
