"""Photos with a label each become class folders without held-out names, and are asked about among any names."""

import json
from pathlib import Path

import pytest
from PIL import Image

from glip.data.class_folders import LabelledPictures, read_class_folders
from glip.data.pairs import read_pairs
from glip.engine.clip_config import read_clip_config
from glip.errors import DataError, FileError
from tools.evaluate_clip import among, questions
from tools.make_clip_data import SETS, link_photos, read_held_out, read_labelled, write_pairs

CONFIGS = Path(__file__).parents[1] / "configs"
HELD_OUT = CONFIGS / "words/held_out_caltech.yaml"
NAMES = ("crab", "cup", "yin yang")


def write_photos(folder: Path, labels: list[str | None]) -> Path:
    (folder / "images").mkdir()
    records = []
    for number, label in enumerate(labels):
        Image.new("RGB", (8, 8)).save(folder / f"images/{number}.jpg")
        records.append({"file_name": f"images/{number}.jpg", **({} if label is None else {"image_label": label})})
    path = folder / "train.json"
    path.write_text(json.dumps({"images": records}))
    return path


@pytest.fixture
def pictures() -> LabelledPictures:
    return LabelledPictures((Path("a.jpg"), Path("b.jpg"), Path("c.jpg")), (0, 1, 0), ("cup", "crab"))


def test_labels_of_a_file_become_sorted_names(tmp_path: Path) -> None:
    found = read_labelled(write_photos(tmp_path, ["yin yang", "cup", "yin yang"]))
    assert found.names == ("cup", "yin yang")
    assert found.labels == (1, 0, 1)
    assert found.images[2] == tmp_path / "images/2.jpg"


def test_a_file_without_photos_has_no_names(tmp_path: Path) -> None:
    assert read_labelled(write_photos(tmp_path, [])) == LabelledPictures((), (), ())


def test_a_photo_without_a_label_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images/1\.jpg has no image_label"):
        read_labelled(write_photos(tmp_path, ["cup", None]))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.json: no such file"):
        read_labelled(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("without", "names"),
    [
        pytest.param((), ("cup", "yin yang"), id="nothing held out"),
        pytest.param(("yin yang", "crab"), ("cup",), id="a name held out, and one that no photo has"),
    ],
)
def test_each_name_gets_a_folder_of_links_with(
    without: tuple[str, ...], names: tuple[str, ...], tmp_path: Path
) -> None:
    labels = ["yin yang", "cup", "yin yang"]
    path = write_photos(tmp_path, list(labels))
    links = link_photos(read_labelled(path), tmp_path / "linked", without=without)
    found = read_class_folders(tmp_path / "linked")
    assert found.names == names
    assert len(links) == len(found.images) == sum(label in names for label in labels)
    assert all(image.is_symlink() and image.resolve().parent == tmp_path / "images" for image in found.images)


def test_links_are_written_as_pairs_beside_them(tmp_path: Path) -> None:
    links = link_photos(read_labelled(write_photos(tmp_path, ["ant", "cup"])), tmp_path / "linked")
    write_pairs(links, tmp_path / "pairs.csv")
    assert [(pair.image, pair.caption) for pair in read_pairs(tmp_path / "pairs.csv")] == [
        (tmp_path / "linked/ant/0.jpg", "a photo of an ant"),
        (tmp_path / "linked/cup/1.jpg", "a photo of a cup"),
    ]


def test_no_links_are_no_pairs(tmp_path: Path) -> None:
    write_pairs([], tmp_path / "pairs.csv")
    assert (tmp_path / "pairs.csv").read_text().splitlines() == ["path,caption"]


def test_photos_keep_their_names_among_others(pictures: LabelledPictures) -> None:
    assert among(pictures, NAMES) == LabelledPictures(pictures.images, (1, 0, 1), NAMES)


def test_photos_of_other_names_can_be_left_out(pictures: LabelledPictures) -> None:
    assert among(pictures, NAMES, ["crab"]) == LabelledPictures((Path("b.jpg"),), (0,), NAMES)


def test_held_out_names_are_asked_among_themselves_and_among_all(pictures: LabelledPictures) -> None:
    own, all_names = questions(pictures, NAMES, ["crab"])
    assert (own.names, own.labels) == (("crab",), (0,))
    assert (all_names.names, all_names.labels) == (NAMES, (0,))


def test_without_held_out_names_all_photos_are_asked_once(pictures: LabelledPictures) -> None:
    (asked,) = questions(pictures, NAMES, [])
    assert asked.images == pictures.images


def test_twenty_names_are_held_out_with_what_is_the_same() -> None:
    names, same = read_held_out(HELD_OUT, "names"), read_held_out(HELD_OUT, "same")
    assert len(set(names)) == 20
    assert {"beaver", "snow leopard"} <= set(same)


def test_the_experiment_reads_the_folders_that_the_tool_writes() -> None:
    sources = read_clip_config(CONFIGS / "clip_caltech.yaml").sources
    assert [source.pairs.name for source in sources] == list(SETS)
    assert {source.kind for source in sources} == {"classes"}
