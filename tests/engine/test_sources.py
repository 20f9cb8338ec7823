"""Every format becomes examples, by its own rules."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.data.examples import GroundedObject
from glip.engine.config import SourceConfig
from glip.engine.sources import read_sources
from glip.errors import ConfigError, FileError, GlipError, ImageError

XML = """<annotation><object><name>1</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>10</xmax><ymax>12</ymax></bndbox>
</object><object><name>2</name><scene>1</scene></object>
<object><name>3</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>5</xmax><ymax>9</ymax></bndbox></object></annotation>"""


@pytest.fixture
def entities(tmp_path: Path) -> Path:
    """Flickr30k Entities with one photo and two sentences; a phrase without a box and one whose box has no area."""
    root = tmp_path / "flickr"
    for name in ("Annotations", "Sentences", "photos"):
        (root / name).mkdir(parents=True)
    (root / "train.txt").write_text("77\n")
    (root / "Annotations" / "77.xml").write_text(XML)
    (root / "Sentences" / "77.txt").write_text(
        "[/EN#1/people A man] in [/EN#2/scene a park] .\nHe holds [/EN#3/other a stick] .\n"
    )
    Image.new("RGB", (40, 30)).save(root / "photos" / "77.jpg")
    return root


def flickr(root: Path, **changes: Any) -> SourceConfig:
    settings = {"annotations": root, "images": root / "photos", "kind": "flickr30k", **changes}
    return SourceConfig.model_validate(settings)


def test_each_sentence_of_flickr30k_is_an_example(entities: Path) -> None:
    (first, second), weights = read_sources((flickr(entities),))
    assert first.caption == "A man in a park ."
    assert first.objects == (GroundedObject((2, 3, 10, 12), "A man", ((0, 5),)),)
    assert first.size == (30, 40)
    assert (second.caption, second.objects) == ("He holds a stick .", ())
    assert weights == [0.5, 0.5]


def test_box_loss_is_a_property_of_the_source(entities: Path) -> None:
    examples, _ = read_sources((flickr(entities), flickr(entities, box_loss=False)))
    assert [example.box_loss for example in examples] == [True, True, False, False]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        pytest.param({"images": None}, ConfigError, "needs images, the folder of its photos", id="no folder of photos"),
        pytest.param({"split": "tes"}, FileError, r"tes\.txt", id="a split that is not there"),
        pytest.param({"images": "nowhere"}, FileError, r"77\.jpg: no such picture", id="a photo that is not there"),
    ],
)
def test_flickr30k_that_cannot_be_read_is_one_sentence(
    entities: Path, changes: dict[str, Any], error: type[GlipError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_sources((flickr(entities, **changes),))


def test_a_photo_that_is_none_is_one_sentence(entities: Path) -> None:
    (entities / "photos" / "77.jpg").write_text("no picture")
    with pytest.raises(ImageError, match=r"77\.jpg: not an image"):
        read_sources((flickr(entities),))


def test_a_turned_photo_has_the_size_that_one_sees(entities: Path) -> None:
    turned = Image.new("RGB", (40, 30))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(entities / "photos" / "77.jpg", exif=exif)
    (first, _), _ = read_sources((flickr(entities),))
    assert first.size == (40, 30)


@pytest.fixture
def odinw(tmp_path: Path) -> Path:
    """An ODinW task that calls class 2 by another name and does not ask for class 1."""
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 10, "width": 10}],
        "categories": [{"id": 1, "name": "CoW"}, {"id": 2, "name": "CoC"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [1, 1, 5, 5]},
        ],
    }
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "boxes.json").write_text(json.dumps(content))
    task = """
DATASETS:
  REGISTER: {train: {ann_file: train/boxes.json, img_dir: train/photos}}
  OVERRIDE_CATEGORY: '[{"id": 2, "name": "flat mushroom", "supercategory": "m"}]'
"""
    (tmp_path / "mushrooms.yaml").write_text(task)
    return tmp_path


def test_a_split_of_an_odinw_task_has_the_names_that_the_task_gives(odinw: Path) -> None:
    source = SourceConfig(annotations=odinw / "mushrooms.yaml", images=odinw, kind="odinw")
    (example,), _ = read_sources((source,))
    assert example.objects == (GroundedObject((1, 1, 6, 6), "flat mushroom"),)
    assert example.absent == ()
    assert example.image == odinw / "train" / "photos" / "a.jpg"


def test_a_folder_of_odinw_tasks_is_one_sentence(odinw: Path) -> None:
    with pytest.raises(ConfigError, match="is one task's YAML file, got a folder"):
        read_sources((SourceConfig(annotations=odinw, kind="odinw"),))


def test_only_files_with_splits_have_one(odinw: Path) -> None:
    with pytest.raises(ValueError, match="a file of kind detection has no splits"):
        SourceConfig(annotations=odinw / "x.json", kind="detection", split="train")


def test_a_name_of_two_ids_is_present_or_absent_never_both(odinw: Path) -> None:
    text = (
        (odinw / "mushrooms.yaml").read_text().replace('[{"id": 2,', '[{"id": 1, "name": "flat mushroom"}, {"id": 2,')
    )
    (odinw / "twice.yaml").write_text(text)
    (example,), _ = read_sources((SourceConfig(annotations=odinw / "twice.yaml", images=odinw, kind="odinw"),))
    assert [thing.name for thing in example.objects] == ["flat mushroom"] * 2
    assert example.absent == ()


def test_lvis_names_its_pictures_by_their_address(tmp_path: Path) -> None:
    image = {"id": 1, "coco_url": "http://images.example/val2017/9.jpg", "height": 4, "width": 4}
    image |= {"neg_category_ids": [2], "not_exhaustive_category_ids": []}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "emu"}]
    content = {"images": [image], "annotations": [], "categories": categories}
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    (example,), _ = read_sources((SourceConfig(annotations=tmp_path / "lvis.json", kind="detection"),))
    assert example.image == tmp_path / "val2017" / "9.jpg"
    assert example.absent == ("dog",)
