"""COCO detection files and MDETR grounding files become examples: boxes xyxy pixels, sizes (height, width)."""

import json
from pathlib import Path
from typing import Any

import pytest

from glip.data.examples import Example, GroundedObject
from glip.data.readers import read_detection_json, read_grounding_json
from glip.errors import DataError

CAT_AND_DOG = [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]
IMAGE = {"id": 5, "file_name": "a.jpg", "height": 60, "width": 80}
BALL = "a red ball on a red sofa"


def detection(tmp_path: Path, annotations: list[dict[str, Any]], **changes: Any) -> list[Example]:
    content = {"images": [IMAGE], "categories": CAT_AND_DOG, "annotations": annotations}
    path = tmp_path / "train.json"
    path.write_text(json.dumps({**content, **changes}))
    return read_detection_json(path)


def grounding(tmp_path: Path, annotations: list[dict[str, Any]], **changes: Any) -> list[Example]:
    content = {"images": [{**IMAGE, "caption": BALL}], "annotations": annotations}
    path = tmp_path / "train.json"
    path.write_text(json.dumps({**content, **changes}))
    return read_grounding_json(path)


def a_box(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 5, "category_id": 1, "bbox": [10, 20, 30, 15], **changes}


# --- detection ---------------------------------------------------------------------------------------------------


def test_a_detection_file_by_hand(tmp_path: Path) -> None:
    (example,) = detection(tmp_path, [a_box(), a_box(category_id=7, bbox=[0, 0.5, 2, 2])])
    assert example == Example(
        image=tmp_path / "a.jpg",
        size=(60, 80),
        objects=(GroundedObject((10, 20, 40, 35), "cat"), GroundedObject((0, 0.5, 2, 2.5), "dog")),
        caption=None,
        absent=(),
    )


def test_categories_that_an_image_has_no_box_of_are_absent(tmp_path: Path) -> None:
    (example,) = detection(tmp_path, [a_box(category_id=7)])
    assert example.absent == ("cat",)


@pytest.mark.parametrize(
    "annotation",
    [
        pytest.param(a_box(iscrowd=1), id="a crowd"),
        pytest.param(a_box(bbox=[10, 20, 0, 15]), id="a box without width"),
        pytest.param(a_box(bbox=[10, 20, 30, 0]), id="a box without height"),
        pytest.param(a_box(bbox=[10, 20, -3, 15]), id="a box of negative width"),
    ],
)
def test_what_is_no_object_is_left_out_but_its_class_is_not_absent(tmp_path: Path, annotation: dict[str, Any]) -> None:
    (example,) = detection(tmp_path, [annotation])
    assert example.objects == ()
    assert example.absent == ("dog",)


@pytest.mark.parametrize(
    ("neg_category_ids", "absent"),
    [
        pytest.param([7], ("dog",), id="one class"),
        pytest.param([1, 7], ("dog",), id="not a class that is there after all"),
        pytest.param([7, 99], ("dog",), id="not a class that the file does not have"),
        pytest.param([], (), id="none: nothing is known to be absent"),
    ],
)
def test_lvis_says_itself_what_is_absent(tmp_path: Path, neg_category_ids: list[int], absent: tuple[str, ...]) -> None:
    images = [{**IMAGE, "neg_category_ids": neg_category_ids}]
    (example,) = detection(tmp_path, [a_box()], images=images)
    assert example.absent == absent


@pytest.mark.parametrize(
    ("annotations", "absent"),
    [
        pytest.param([], (), id="unused, it is the background and no class"),
        pytest.param([a_box(category_id=0)], (), id="used, it is a class like others"),
    ],
)
def test_category_zero(tmp_path: Path, annotations: list[dict[str, Any]], absent: tuple[str, ...]) -> None:
    (example,) = detection(tmp_path, annotations, categories=[{"id": 0, "name": "thing"}])
    assert [thing.name for thing in example.objects] == ["thing"] * len(annotations)
    assert example.absent == absent


def test_an_image_without_annotations_is_an_example(tmp_path: Path) -> None:
    (example,) = detection(tmp_path, [])
    assert (example.objects, example.absent) == ((), ("cat", "dog"))


def test_a_file_without_images_has_no_example(tmp_path: Path) -> None:
    assert detection(tmp_path, [], images=[]) == []


def test_each_image_gets_its_own_boxes_in_the_files_order(tmp_path: Path) -> None:
    images = [{**IMAGE, "id": "second"}, {**IMAGE, "id": "first", "file_name": "b/b.jpg"}]
    boxes = [a_box(image_id="first"), a_box(image_id="second", category_id=7), a_box(image_id="first", category_id=7)]
    second, first = detection(tmp_path, boxes, images=images)
    assert [thing.name for thing in second.objects] == ["dog"]
    assert [thing.name for thing in first.objects] == ["cat", "dog"]
    assert first.image == tmp_path / "b" / "b.jpg"


def test_pictures_may_lie_in_another_folder(tmp_path: Path) -> None:
    detection(tmp_path, [])
    (example,) = read_detection_json(str(tmp_path / "train.json"), images="/photos")
    assert example.image == Path("/photos/a.jpg")


# --- grounding ---------------------------------------------------------------------------------------------------


def test_a_grounding_file_by_hand(tmp_path: Path) -> None:
    boxes = [a_box(tokens_positive=[[0, 10]]), a_box(bbox=[0, 0, 80, 60], tokens_positive=[[14, 24]])]
    (example,) = grounding(tmp_path, boxes)
    assert example == Example(
        image=tmp_path / "a.jpg",
        size=(60, 80),
        objects=(
            GroundedObject((10, 20, 40, 35), "a red ball", ((0, 10),)),
            GroundedObject((0, 0, 80, 60), "a red sofa", ((14, 24),)),
        ),
        caption=BALL,
        absent=(),
    )


def test_an_object_may_have_several_spans(tmp_path: Path) -> None:
    (example,) = grounding(tmp_path, [a_box(tokens_positive=[[2, 5], [16, 19]])])
    assert example.objects == (GroundedObject((10, 20, 40, 35), "red red", ((2, 5), (16, 19))),)


def test_tokens_is_another_name_for_tokens_positive(tmp_path: Path) -> None:
    (example,) = grounding(tmp_path, [a_box(tokens=[[6, 10]])])
    assert example.objects[0].name == "ball"


def test_a_grounding_box_without_area_is_left_out(tmp_path: Path) -> None:
    (example,) = grounding(tmp_path, [a_box(bbox=[1, 2, 0, 3], tokens_positive=[[6, 10]])])
    assert example.objects == ()


def test_a_sentence_without_boxes_is_an_example(tmp_path: Path) -> None:
    (example,) = grounding(tmp_path, [])
    assert (example.objects, example.caption) == ((), BALL)


def test_two_captions_of_one_picture_are_two_examples(tmp_path: Path) -> None:
    images = [{**IMAGE, "id": 1, "caption": "a ball"}, {**IMAGE, "id": 2, "caption": "a sofa"}]
    examples = grounding(tmp_path, [a_box(image_id=2, tokens_positive=[[2, 6]])], images=images)
    assert [(example.caption, len(example.objects)) for example in examples] == [("a ball", 0), ("a sofa", 1)]


# --- errors: the sentence names file, record and field (others are in tests/cli/test_bad_inputs.py) ---------------


@pytest.mark.parametrize("field", ["id", "file_name", "height", "width"])
def test_an_image_record_without_a_field_is_named(tmp_path: Path, field: str) -> None:
    images = [{name: value for name, value in IMAGE.items() if name != field}]
    with pytest.raises(DataError, match=rf"train\.json: images record .*: field '{field}' is missing"):
        detection(tmp_path, [], images=images)


@pytest.mark.parametrize("field", ["image_id", "bbox"])
def test_an_annotation_without_a_field_is_named(tmp_path: Path, field: str) -> None:
    annotation = {name: value for name, value in a_box(id=31).items() if name != field}
    with pytest.raises(DataError, match=rf"train\.json: annotations record 31: field '{field}' is missing"):
        detection(tmp_path, [annotation])


def test_an_annotation_without_a_category_is_named(tmp_path: Path) -> None:
    annotation = {name: value for name, value in a_box(id=31).items() if name != "category_id"}
    with pytest.raises(DataError, match=r"train\.json: annotation 31: category_id None is not in categories"):
        detection(tmp_path, [annotation])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"annotations": [a_box(image_id=[5])]}, id="a list as an annotation's image_id"),
        pytest.param({"images": [{**IMAGE, "id": [5]}], "annotations": []}, id="a list as an image's id"),
        pytest.param({"categories": [{"id": [1], "name": "cat"}]}, id="a list as a category's id"),
        pytest.param({"categories": [{"id": 1, "name": None}]}, id="a category named null"),
        pytest.param({"categories": [{"id": 0, "name": "cat"}], "annotations": 5}, id="a number for the annotations"),
        pytest.param({"categories": [{"id": 0, "name": "cat"}], "annotations": ["a"]}, id="a word for an annotation"),
        pytest.param({"images": [{**IMAGE, "file_name": None}]}, id="a file name that is null"),
        pytest.param({"images": [{**IMAGE, "height": float("inf")}]}, id="an endless height"),
        pytest.param({"annotations": [a_box(bbox=[1, 2, 3, 10**400])]}, id="a box beyond every float"),
    ],
)
def test_a_detection_file_is_refused_for(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"train\.json"):
        detection(tmp_path, **{"annotations": [a_box()], **changes})


def test_a_caption_that_is_null_is_refused_and_not_read_as_a_word(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.json: .*caption"):
        grounding(tmp_path, [], images=[{**IMAGE, "caption": None}])
