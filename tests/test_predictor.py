"""`Predictor`: one picture in, `Detections` out; a list in, a list out; labels index the caller's own words.

Boxes are xyxy pixels of the upright original, best first. How many classes there are, how pictures are given and how
many go through the network together changes nothing.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from glip.detection.calibration import Calibrator
from glip.detection.postprocess import PostProcessor
from glip.errors import ConfigError, FileError
from glip.images import ImageInput, read_image
from glip.models.glip import GlipModel
from glip.predictor import Predictor, published_processor
from glip.processing import GlipImageProcessor, GlipProcessor
from glip.structures.boxes import pairwise_iou
from glip.structures.detections import Detections
from glip.text.prompts import prompt_from_caption, prompt_from_expression
from glip.text.tokens import pack_labels
from glip.weights.folder import find_model
from tests.cli.quick import quick_predictor
from tests.reference.tiny_models import TINY_TEXT, tiny_model

BERT_VOCABULARY = 30522


@pytest.fixture(scope="module")
def quick(predictor: Predictor) -> Predictor:
    """The shipped model on small pictures."""
    return quick_predictor(predictor)


@pytest.fixture(scope="module")
def cat(photos: Path) -> Image.Image:
    """A photo of a cat, 451 x 300 pixels."""
    with Image.open(photos / "chelsea.jpg") as photo:
        return photo.convert("RGB")


def assert_same(found: Detections, expected: Detections) -> None:
    """Equal up to the order of boxes whose scores are all but equal."""
    assert len(found) == len(expected)
    assert found.phrases == expected.phrases
    found, expected = in_order(found), in_order(expected)
    torch.testing.assert_close(found.labels, expected.labels)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-3, atol=1e-2)


def in_order(detections: Detections) -> Detections:
    """By label, and for each label best first."""
    return detections[torch.from_numpy(np.lexsort((-detections.scores.numpy(), detections.labels.numpy())))]


# --- what it finds -----------------------------------------------------------------------------------------------


def test_the_shipped_model_finds_the_cat(predictor: Predictor, photos: Path) -> None:
    found = predictor.detect(photos / "chelsea.jpg", ["cat"])
    assert len(found) > 0
    assert set(found.text_labels) == {"cat"}
    assert float(found.scores.min()) >= predictor.processor.threshold


def test_boxes_lie_in_the_picture_and_scores_go_down(quick: Predictor, cat: Image.Image) -> None:
    found = quick.detect(cat, ["cat", "dog"], threshold=0.0)
    assert len(found) > 1
    assert found.boxes.dtype == torch.float32
    assert bool((found.boxes >= 0).all())
    assert bool((found.boxes[:, :2] <= found.boxes[:, 2:]).all())
    assert bool((found.boxes[:, 2:] <= torch.tensor([451.0, 300.0])).all())
    assert bool((found.scores.diff() <= 0).all())
    assert bool(((found.scores >= 0) & (found.scores <= 1)).all())


def test_the_same_picture_twice_gives_the_same_numbers(quick: Predictor, cat: Image.Image) -> None:
    once, again = (quick.detect(cat, ["cat", "dog"], threshold=0.0) for _ in range(2))
    torch.testing.assert_close(once.boxes, again.boxes, rtol=0, atol=0)
    torch.testing.assert_close(once.scores, again.scores, rtol=0, atol=0)


# --- one and many ------------------------------------------------------------------------------------------------

Find = Callable[[Predictor, Any], Any]
TASKS = [
    pytest.param(lambda predictor, images: predictor.detect(images, ["cat"], threshold=0.0), id="detect"),
    pytest.param(lambda predictor, images: predictor.ground(images, "a cat", threshold=0.0), id="ground"),
    pytest.param(lambda predictor, images: predictor.refer(images, "a cat"), id="refer"),
]


@pytest.mark.parametrize("find", TASKS)
def test_one_picture_gives_detections_and_a_list_gives_a_list(quick: Predictor, cat: Image.Image, find: Find) -> None:
    one = find(quick, cat)
    several = find(quick, [cat, cat.crop((0, 0, 200, 100))])
    assert isinstance(one, Detections)
    assert isinstance(several, list)
    assert len(several) == 2
    assert_same(several[0], one)


@pytest.mark.parametrize("find", TASKS)
def test_a_list_of_one_gives_a_list_of_one(quick: Predictor, cat: Image.Image, find: Find) -> None:
    (found,) = find(quick, [cat])
    assert isinstance(found, Detections)


@pytest.mark.parametrize("find", TASKS)
def test_no_picture_gives_an_empty_list(quick: Predictor, find: Find) -> None:
    assert find(quick, []) == []


def saved(image: Image.Image, folder: Path) -> str:
    image.save(folder / "cat.png")
    return str(folder / "cat.png")


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda image, _: image, id="PIL image"),
        pytest.param(lambda image, folder: Path(saved(image, folder)), id="path"),
        pytest.param(saved, id="path as a string"),
        pytest.param(lambda image, _: np.array(image), id="array"),
        pytest.param(lambda image, _: np.array(image) / 255, id="array of floats"),
        pytest.param(lambda image, _: torch.from_numpy(np.array(image)).permute(2, 0, 1), id="tensor"),
        pytest.param(lambda image, _: torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, id="floats"),
    ],
)
def test_a_picture_may_be_given_as(
    quick: Predictor, cat: Image.Image, tmp_path: Path, given: Callable[[Image.Image, Path], Any]
) -> None:
    expected = quick.detect(cat, ["cat"], threshold=0.0)
    assert_same(quick.detect(given(cat, tmp_path), ["cat"], threshold=0.0), expected)


@pytest.mark.parametrize("as_batch", [np.stack, lambda arrays: torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)])
def test_an_array_of_pictures_is_a_list(
    quick: Predictor, cat: Image.Image, as_batch: Callable[[Sequence[Any]], Any]
) -> None:
    pixels = np.array(cat)
    found = quick.detect(as_batch([pixels, pixels[:, ::-1]]), ["cat"], threshold=0.0)
    assert isinstance(found, list)
    assert_same(found[0], quick.detect(cat, ["cat"], threshold=0.0))


@pytest.mark.parametrize("find", TASKS)
def test_pictures_of_one_size_give_the_same_two_by_two_as_one_by_one(
    predictor: Predictor, quick: Predictor, cat: Image.Image, find: Find
) -> None:
    pictures = [cat, cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT), cat.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
    for together, alone in zip(
        find(quick_predictor(predictor, batch_size=2), pictures), find(quick, pictures), strict=True
    ):
        assert_same(together, alone)


def test_each_picture_may_have_its_own_caption(quick: Predictor, cat: Image.Image) -> None:
    first, second = quick.ground([cat, cat], ["a cat", "a red ball on a sofa"], threshold=0.0)
    assert first.phrases == ("a cat",)
    assert second.phrases == ("a red ball", "a sofa")


def test_the_pictures_given_are_left_as_they_are(quick: Predictor, cat: Image.Image) -> None:
    pixels = np.array(cat)
    before = pixels.copy()
    quick.detect(pixels, ["cat"])
    np.testing.assert_array_equal(pixels, before)


def test_a_photo_turned_by_exif_has_boxes_in_upright_pixels(quick: Predictor, cat: Image.Image, tmp_path: Path) -> None:
    upright = cat.rotate(90, expand=True)  # 300 wide, 451 high
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: show it turned clockwise by a quarter
    upright.rotate(90, expand=True).save(tmp_path / "phone.png", exif=exif)
    found = quick.detect(tmp_path / "phone.png", ["cat"], threshold=0.0)
    assert_same(found, quick.detect(upright, ["cat"], threshold=0.0))
    assert bool((found.boxes[:, 2:] <= torch.tensor([300.0, 451.0])).all())
    assert float(found.boxes[:, 3].max()) > 300  # more than the file's own height


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(["Traffic_Light", "traffic light"], id="capitals and underscores"),
        pytest.param(["cat", "dog", "cat"], id="duplicates"),
        pytest.param(["café", "Straße", "猫"], id="accents and other scripts"),
        pytest.param(["bow_(weapon)", " cat "], id="parentheses and spaces"),
    ],
)
def test_the_callers_strings_come_back_unchanged(quick: Predictor, cat: Image.Image, labels: list[str]) -> None:
    given = list(labels)
    found = quick.detect(cat, labels, threshold=0.0)
    assert found.phrases == tuple(labels)
    assert found.text_labels == [labels[label] for label in found.labels.tolist()]
    assert labels == given


def test_equal_labels_find_equal_boxes_under_indices_of_their_own(quick: Predictor, cat: Image.Image) -> None:
    """Not to the last digit: each name stands at a place of its own in the caption."""
    found = quick.detect(cat, ["cat", "cat"], threshold=0.0)
    assert set(found.labels.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("phrases", "texts", "spans"),
    [
        pytest.param(["cat", "remote control"], ("cat", "remote control"), (((2, 5),), ((16, 30),)), id="strings"),
        pytest.param([(0, 5), (14, 30)], ("a cat", "a remote control"), (((0, 5),), ((14, 30),)), id="spans"),
        pytest.param([[(2, 5), (16, 22)]], ("cat remote",), (((2, 5), (16, 22)),), id="one phrase of two spans"),
        pytest.param(None, ("a cat", "a remote control"), (((0, 5),), ((14, 30),)), id="noun phrases"),
        pytest.param(["CAT"], ("CAT",), (((2, 5),),), id="another case"),
        pytest.param(["remote control", "cat"], ("remote control", "cat"), (((16, 30),), ((2, 5),)), id="reversed"),
    ],
)
def test_phrases_and_where_they_stand(
    quick: Predictor,
    cat: Image.Image,
    phrases: Any,
    texts: tuple[str, ...],
    spans: tuple[tuple[tuple[int, int], ...], ...],
) -> None:
    found = quick.ground(cat, "a cat next to a remote control", phrases, threshold=0.0)
    assert (found.phrases, found.spans) == (texts, spans)


@pytest.mark.parametrize("expression", ["the cat", "purple zebra far away", "  the cat on the left "])
def test_refer_gives_exactly_one_box_whatever_its_score(quick: Predictor, cat: Image.Image, expression: str) -> None:
    found = quick.refer(cat, expression)
    assert len(found) == 1
    assert found.phrases == (expression,)


def contrasting(predictor: Predictor, weight: float, **changes: Any) -> Predictor:
    processor = copy.copy(predictor.processor)
    for name, value in changes.items():
        setattr(processor, name, value)
    return Predictor(predictor.model, processor, rules=processor.post_processor(contrast=weight), batch_size=2)


def test_refer_weighs_words_that_have_opposites(quick: Predictor, cat: Image.Image) -> None:
    def way(predictor: Predictor) -> float:
        """How far the middle of the answer moves to the right, in pixels, when the side's word does."""
        boxes = [predictor.refer(cat, f"the cat on the {side}").boxes[0] for side in ("left", "right")]
        (left, right) = (float(box[0] + box[2]) / 2 for box in boxes)
        return right - left

    plain, weighing = contrasting(quick, 0.0), contrasting(quick, 10.0)
    assert way(weighing) > way(plain) + 20
    assert_same(weighing.refer(cat, "a cat"), plain.refer(cat, "a cat"))


def test_refer_weighs_each_picture_of_a_list_alone(quick: Predictor, cat: Image.Image) -> None:
    weighing = contrasting(quick, 3.0)
    pictures, expressions = [cat, cat.rotate(180), cat], ["the cat on the left", "the small cat", "a cat"]
    together = weighing.refer(pictures, expressions)
    for found, picture, expression in zip(together, pictures, expressions, strict=True):
        assert_same(found, weighing.refer(picture, expression))


def test_expressions_are_found_as_refer_finds_them_and_phrases_are_not(quick: Predictor, cat: Image.Image) -> None:
    weighing, expression = contrasting(quick, 3.0), "the cat on the left"
    (found,) = weighing.find([cat], [prompt_from_expression(expression)], expressions=True)
    assert_same(found[:1], weighing.refer(cat, expression))
    two = prompt_from_caption("a cat on the left of a dog", ["a cat", "a dog"])
    (weighed,) = weighing.find([cat], [two], expressions=True)
    (plain,) = contrasting(quick, 0.0).find([cat], [two], expressions=True)
    assert_same(weighed, plain)


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("the closest cat", id="an opposite that is too long to be asked counts for nothing"),
        pytest.param("the left cat on a very big chair", id="an expression that is too long finds nothing"),
    ],
)
def test_what_does_not_fit_is_not_weighed(quick: Predictor, cat: Image.Image, expression: str) -> None:
    prompt = prompt_from_expression(expression)
    answers = [
        contrasting(quick, weight, max_tokens=5).find([cat], [prompt], truncate=True, expressions=True)[0]
        for weight in (0.0, 3.0)
    ]
    assert_same(*answers)


def test_refer_gives_the_best_box_of_its_phrase(quick: Predictor, cat: Image.Image) -> None:
    best = quick.ground(cat, "the cat", ["the cat"], threshold=0.0)[:1]
    assert_same(quick.refer(cat, "the cat"), best)


def test_every_word_of_an_expression_counts_whatever_the_rules_say(quick: Predictor, cat: Image.Image) -> None:
    best_word = Predictor(quick.model, quick.processor, rules=PostProcessor(aggregation="max"))
    expression = "the cat on the left of the purple zebra"
    assert_same(best_word.refer(cat, expression), quick.refer(cat, expression))
    assert best_word.ground(cat, expression, threshold=0.0).scores[0] != quick.refer(cat, expression).scores[0]


# --- thresholds --------------------------------------------------------------------------------------------------


def test_a_threshold_takes_away_what_is_below_it_and_nothing_else(quick: Predictor, cat: Image.Image) -> None:
    everything = quick.detect(cat, ["cat", "dog"], threshold=0.0)
    middle = float(everything.scores.mean())
    found = quick.detect(cat, ["cat", "dog"], threshold=middle)
    assert 0 < len(found) < len(everything)
    assert_same(found, everything[everything.scores >= middle])


def test_without_a_threshold_the_models_own_counts(quick: Predictor, cat: Image.Image) -> None:
    everything = quick.detect(cat, ["cat"], threshold=0.0)
    middle = float(everything.scores[len(everything) // 2])
    own = Predictor(
        quick.model, GlipProcessor(quick.processor.image_processor, quick.processor.tokenizer, threshold=middle)
    )
    assert_same(own.detect(cat, ["cat"]), everything[everything.scores >= middle])


def test_each_label_may_have_a_threshold_of_its_own(quick: Predictor, cat: Image.Image) -> None:
    everything = quick.detect(cat, ["cat", "dog", "cup"], threshold=0.0)
    dogs = everything.scores[everything.labels == 1]
    middle = float(dogs[len(dogs) // 2])
    found = quick.detect(cat, ["cat", "dog", "cup"], threshold={"cat": 1.0, "dog": middle})  # cups: all of them
    assert_same(
        found,
        everything[((everything.labels == 1) & (everything.scores >= middle)) | (everything.labels == 2)],
    )


# --- many classes ------------------------------------------------------------------------------------------------


def spied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of every call of the image encoder from now on."""
    calls: list[int] = []
    encode = GlipModel.encode_image

    def encode_image(self: GlipModel, pixel_values: Tensor, image_sizes: Tensor) -> list[Tensor]:
        calls.append(len(pixel_values))
        return encode(self, pixel_values, image_sizes)

    monkeypatch.setattr(GlipModel, "encode_image", encode_image)
    return calls


def test_three_hundred_classes_are_found_as_by_one_run_for_each_caption_of_them(
    quick: Predictor, cat: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"thing number {number}" for number in range(299)] + ["cat"]
    chunks = pack_labels(names, quick.processor.tokenizer)
    assert len(chunks) > 4
    parts, first = [], 0
    for chunk in chunks:
        own = [phrase.text for phrase in chunk.phrases]
        found = quick.detect(cat, own, threshold=0.0)
        parts.append(Detections(found.boxes, found.scores, found.labels + first, tuple(names)))
        first += len(own)
    assert first == 300
    calls = spied(monkeypatch)
    together = quick.detect(cat, names, threshold=0.0)
    assert calls == [1]
    assert bool((together.scores.diff() <= 0).all())
    assert_same(
        together,
        Detections(
            torch.cat([part.boxes for part in parts]),
            torch.cat([part.scores for part in parts]),
            torch.cat([part.labels for part in parts]),
            tuple(names),
        ),
    )


def test_several_pictures_and_captions_need_the_image_encoder_once_a_batch(
    predictor: Predictor, cat: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = quick_predictor(predictor, max_tokens=6, batch_size=2)  # two names of one token and their stop
    names = ["cat", "dog", "cup", "car", "tree"]
    alone = [
        short.detect(picture, names, threshold=0.0) for picture in (cat, cat.transpose(Image.Transpose.ROTATE_180))
    ]
    calls = spied(monkeypatch)
    together = short.detect([cat, cat.transpose(Image.Transpose.ROTATE_180), cat], names, threshold=0.0)
    assert calls == [2, 1]
    for found, expected in zip(together, [*alone, alone[0]], strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize(
    "max_tokens", [pytest.param(256, id="in one caption"), pytest.param(6, id="in three captions")]
)
def test_boxes_of_other_classes_suppress_only_where_rules_are_class_agnostic(
    predictor: Predictor, cat: Image.Image, max_tokens: int
) -> None:
    names = ["cat", "kitten", "dog", "animal", "pet"]
    per_class, agnostic = (
        quick_predictor(
            predictor,
            max_tokens=max_tokens,
            rules=PostProcessor(nms_threshold=0.5, legacy_iou=False, class_agnostic=is_agnostic),
        ).detect(cat, names, threshold=0.0)
        for is_agnostic in (False, True)
    )
    assert highest_overlap(per_class) > 0.5
    assert highest_overlap(agnostic) <= 0.5
    torch.testing.assert_close(agnostic.scores[0], per_class.scores[0])
    assert bool((agnostic.scores.diff() <= 0).all())


def highest_overlap(found: Detections) -> float:
    """Of two different boxes."""
    overlaps = pairwise_iou(found.boxes, found.boxes)
    return float(overlaps.fill_diagonal_(0).max())


def test_a_long_list_keeps_the_callers_words_of_classes_that_are_not_found(
    predictor: Predictor, cat: Image.Image
) -> None:
    names = ["Cat", "dog", "Traffic_Light", "cat", "dog"]
    found = quick_predictor(predictor, max_tokens=6).detect(cat, names, threshold=1.0)
    assert len(found) == 0
    assert found.phrases == tuple(names)


# --- loading -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Path:
    """A small network with BERT's vocabulary and its processor, saved."""
    path = tmp_path_factory.mktemp("saved")
    text = {**TINY_TEXT, "vocab_size": BERT_VOCABULARY}
    tiny_model("csp", top_down=False, text=text).save_pretrained(path)
    images = GlipImageProcessor(short_side=64, max_side=128)
    GlipProcessor(images, predictor.processor.tokenizer, threshold=0.123).save_pretrained(path)
    return path


@pytest.mark.parametrize("kind", [Path, str])
def test_a_saved_folder_is_loaded_with_its_processor(
    folder: Path, cat: Image.Image, kind: Callable[[Path], Path | str]
) -> None:
    text = {**TINY_TEXT, "vocab_size": BERT_VOCABULARY}
    loaded = Predictor.from_pretrained(kind(folder))
    processor = loaded.processor
    kept = Predictor(tiny_model("csp", top_down=False, text=text), processor)
    assert (processor.image_processor.short_side, processor.threshold) == (64, 0.123)
    assert not loaded.model.training
    assert_same(loaded.refer(cat, "a cat"), kept.refer(cat, "a cat"))


def test_half_precision_and_rules_are_taken(folder: Path, cat: Image.Image) -> None:
    rules = PostProcessor(max_detections=3, candidate_threshold=0.0)
    loaded = Predictor.from_pretrained(folder, dtype=torch.bfloat16, rules=rules, batch_size=2)
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.batch_size == 2
    assert len(loaded.detect(cat, ["cat"], threshold=0.0)) == 3


def test_the_shipped_model_is_found_by_name() -> None:
    assert (find_model("glip-nano") / "config.json").is_file()


def test_published_weights_get_the_published_image_size() -> None:
    processor = published_processor()
    assert (processor.image_processor.short_side, processor.image_processor.max_side) == (800, 1333)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_has_at_least_one_picture(quick: Predictor, batch_size: int) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Predictor(quick.model, quick.processor, batch_size=batch_size)


# --- calibrated scores -------------------------------------------------------------------------------------------


def test_a_calibrator_turns_scores_into_probabilities_and_keeps_boxes_and_order(
    predictor: Predictor, photos: Path
) -> None:
    plain = predictor.detect(photos / "chelsea.jpg", ["cat", "dog"], threshold=0.0)
    halves = Calibrator("isotonic", scores=(0.0, 1.0), probabilities=(0.0, 0.5))
    calibrated = Predictor(predictor.model, predictor.processor, calibrator=halves)
    found = calibrated.detect(photos / "chelsea.jpg", ["cat", "dog"], threshold=0.0)
    torch.testing.assert_close(found.scores, plain.scores / 2)
    assert torch.equal(found.boxes, plain.boxes)
    assert torch.equal(found.labels, plain.labels)


def test_a_calibrator_shows_the_same_boxes_by_default_and_other_ones_at_a_threshold(
    predictor: Predictor, photos: Path
) -> None:
    halves = Calibrator("isotonic", scores=(0.0, 1.0), probabilities=(0.0, 0.5))
    calibrated = Predictor(predictor.model, predictor.processor, calibrator=halves)
    photo = photos / "chelsea.jpg"
    assert len(calibrated.detect(photo, ["cat"])) == len(predictor.detect(photo, ["cat"])) > 0
    assert len(calibrated.detect(photo, ["cat"], threshold=0.51)) == 0
    assert len(calibrated.ground(photo, "a cat", threshold=0.51)) == 0
    assert calibrated.refer(photo, "the cat").scores.max() <= 0.5


def test_a_missing_calibrator_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere\.json: no such file"):
        Predictor.from_pretrained(calibrator=tmp_path / "nowhere.json")


# --- manual prompts ----------------------------------------------------------------------------------------------


def test_a_manual_prompt_is_the_caption_and_the_caller_keeps_the_label(predictor: Predictor, photos: Path) -> None:
    photo = photos / "chelsea.jpg"
    affixes = [("a photo of a ", "cat", " with stripes"), ("", "dog", "")]
    found = predictor.detect(photo, ["animal", "dog"], affixes=affixes, threshold=0.0)
    same = predictor.ground(photo, "a photo of a cat with stripes. dog", [(13, 16), (31, 34)], threshold=0.0)
    torch.testing.assert_close(found.scores, same.scores)
    assert torch.equal(found.labels, same.labels)
    assert found.phrases == ("animal", "dog")


def test_smaller_chunks_are_the_runs_of_each_chunk(predictor: Predictor, photos: Path) -> None:
    names = ["cat", "dog", "bird"]
    chunked = predictor.detect(photos / "chelsea.jpg", names, chunk_size=1, threshold=0.0)
    for label, name in enumerate(names):
        alone = predictor.detect(photos / "chelsea.jpg", [name], threshold=0.0)
        torch.testing.assert_close(chunked[chunked.labels == label].boxes, alone.boxes, atol=1e-2, rtol=0)


def test_answers_come_in_the_order_of_the_pictures_however_they_were_batched(
    predictor: Predictor, photos: Path
) -> None:
    names = ["chelsea.jpg", "astronaut.jpg", "coffee.jpg"]
    upright = read_image(photos / "coffee.jpg").rotate(90, expand=True)
    pictures: list[ImageInput] = [photos / names[0], upright, photos / names[1], photos / names[2]]
    labels = ["cat", "woman", "cup"]
    twos = Predictor(predictor.model, predictor.processor, batch_size=2)
    batched = twos.detect(pictures, labels, threshold=0.2)
    for picture, found in zip(pictures, batched, strict=True):
        alone = predictor.detect(picture, labels, threshold=0.2)
        assert len(alone) > 0
        torch.testing.assert_close(found.boxes[:1], alone.boxes[:1], rtol=0, atol=8.0)
