"""The Python door: pictures and words in, `Detections` out."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from glip.detection.postprocess import PostProcessor
from glip.errors import ShapeError
from glip.models.glip import GlipModel
from glip.predictor import Predictor
from glip.structures.boxes import pairwise_iou
from glip.structures.detections import Detections
from glip.text.tokens import pack_labels

LABELS = ["cat", "remote control"]
CAT = torch.tensor([[0.0, 0.0, 451.0, 300.0]])  # the whole of chelsea.jpg, which is a cat's face


def same(found: Detections, expected: Detections) -> None:
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-4)
    assert torch.equal(found.labels, expected.labels)


@pytest.fixture(scope="module")
def photo(photos: Path) -> Image.Image:
    return Image.open(photos / "chelsea.jpg").convert("RGB")


def test_a_cat_is_found_in_a_photo_of_a_cat(predictor: Predictor, photo: Image.Image) -> None:
    best = predictor.detect(photo, LABELS, threshold=0.0)[:1]
    assert best.text_labels == ["cat"]
    assert float(pairwise_iou(best.boxes, CAT)) > 0.5


@pytest.mark.parametrize("kind", ["path", "string", "array", "tensor"])
def test_a_picture_may_be_a(kind: str, predictor: Predictor, photo: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    photo.save(path)
    array = np.asarray(photo)
    picture = {
        "path": path,
        "string": str(path),
        "array": array,
        "tensor": torch.from_numpy(array.copy()).permute(2, 0, 1),
    }[kind]
    same(predictor.detect(picture, LABELS), predictor.detect(photo, LABELS))  # type: ignore[arg-type]


def test_a_list_gives_a_list_and_no_pictures_give_none(predictor: Predictor, photo: Image.Image) -> None:
    assert [len(found.phrases) for found in predictor.detect([photo, photo], LABELS)] == [2, 2]
    assert len(predictor.detect([photo], LABELS)) == 1
    assert predictor.detect([], LABELS) == []


def test_pictures_of_one_size_are_found_alike_in_a_batch(predictor: Predictor, photo: Image.Image) -> None:
    batched = Predictor(predictor.model, predictor.processor, batch_size=2)
    mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for found, alone in zip(
        batched.detect([photo, mirrored, photo], LABELS, threshold=0.2),
        predictor.detect([photo, mirrored, photo], LABELS, threshold=0.2),
        strict=True,
    ):
        same(found, alone)


def test_results_carry_the_callers_own_words_and_indices(predictor: Predictor, photo: Image.Image) -> None:
    labels = ["Traffic_Light", "cat", "Crème brûlée (dessert)", "cat"]
    found = predictor.detect(photo, labels, threshold=0.0)
    assert found.phrases == tuple(labels)
    cats = [int((found.labels == label).sum()) for label in (1, 3)]
    assert all(cats), "a name that stands twice in the list is found under both indices"


def test_a_long_list_equals_its_chunks_one_by_one_and_encodes_the_picture_once(
    predictor: Predictor, photo: Image.Image
) -> None:
    names = [f"{colour} {thing}" for colour in ("red", "blue", "old") for thing in ("cat", "wool hat", "tin") * 20]
    chunks = pack_labels(names, predictor.processor.tokenizer)
    assert len(chunks) > 2
    with mock.patch.object(GlipModel, "encode_image", autospec=True, side_effect=GlipModel.encode_image) as encode:
        found = predictor.detect(photo, names, threshold=0.0)
    assert encode.call_count == 1
    assert found.phrases == tuple(names)
    for chunk in chunks:
        alone = predictor.detect(photo, [phrase.text for phrase in chunk.phrases], threshold=0.0)
        first, last = chunk.labels[0], chunk.labels[-1]
        part = found[(found.labels >= first) & (found.labels <= last)]
        assert len(part) == len(alone)
        torch.testing.assert_close(part.scores, alone.scores, atol=1e-4, rtol=1e-3)
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)


def test_boxes_of_other_labels_suppress_where_asked_for(predictor: Predictor, photo: Image.Image) -> None:
    rules = PostProcessor(class_agnostic=True)
    strict = Predictor(predictor.model, predictor.processor, rules=rules)
    names = ["cat", "kitten", "animal"]
    assert len(strict.detect(photo, names, threshold=0.0)) < len(predictor.detect(photo, names, threshold=0.0))


def test_each_label_may_have_a_threshold_of_its_own(predictor: Predictor, photo: Image.Image) -> None:
    found = predictor.detect(photo, LABELS, threshold={"cat": 1.0})
    assert "cat" not in found.text_labels
    assert "remote control" in found.text_labels  # no threshold of its own: everything is shown


def test_a_sentence_is_grounded_phrase_by_phrase(predictor: Predictor, photo: Image.Image) -> None:
    found = predictor.ground(photo, "a cat looks at a wool hat", threshold=0.0)
    assert found.phrases == ("a cat", "a wool hat")
    assert found.spans == (((0, 5),), ((15, 25),))
    given = predictor.ground(photo, "a cat looks at a cat", ["cat"], threshold=0.0)
    assert given.spans == (((2, 5), (17, 20)),)


def test_two_pictures_may_have_captions_of_their_own(predictor: Predictor, photo: Image.Image) -> None:
    first, second = predictor.ground([photo, photo], ["a cat", "an old radio"], threshold=0.0)
    assert (first.phrases, second.phrases) == (("a cat",), ("an old radio",))
    with pytest.raises(ShapeError, match="got 1 for 2 images"):
        predictor.ground([photo, photo], ["a cat"])


def test_an_expression_has_exactly_one_answer(predictor: Predictor, photo: Image.Image) -> None:
    found = predictor.refer(photo, "the cat's face")
    assert len(found) == 1
    assert found.text_labels == ["the cat's face"]
    assert len(predictor.refer([photo, photo], ["the left ear", "the right ear"])) == 2


def test_boxes_are_in_pixels_of_the_upright_picture(predictor: Predictor, photo: Image.Image, tmp_path: Path) -> None:
    upright = photo.resize((300, 452))
    path = tmp_path / "rotated.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    found = predictor.detect(path, ["cat"], threshold=0.0)
    assert float(found.boxes[:, 2].max()) <= 300
    expected = predictor.detect(upright, ["cat"], threshold=0.0)
    torch.testing.assert_close(found.boxes[0], expected.boxes[0], atol=12.0, rtol=0)


def test_a_saved_model_predicts_the_same(predictor: Predictor, photo: Image.Image, tmp_path: Path) -> None:
    predictor.model.save_pretrained(tmp_path)
    predictor.processor.save_pretrained(tmp_path)
    same(Predictor.from_pretrained(tmp_path).detect(photo, LABELS), predictor.detect(photo, LABELS))


def test_half_precision_finds_the_same_cat(photo: Image.Image, predictor: Predictor) -> None:
    half = Predictor.from_pretrained(dtype=torch.bfloat16)
    found, expected = (p.detect(photo, ["cat"], threshold=0.0)[:1] for p in (half, predictor))
    assert float(pairwise_iou(found.boxes.float(), expected.boxes)) > 0.8
