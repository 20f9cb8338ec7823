"""What pictures teach glip-nano's blocks: dense teachers on photos, true boxes in scenes; words stay as they are."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import ImageOps
from torch import Tensor

from glip.data.describe import Words
from glip.data.examples import Example, GroundedObject
from glip.data.transforms import mirror
from glip.data.usual_places import UsualPlaces
from glip.images import read_image
from glip.models.cues import PALETTE, STRENGTH
from glip.models.glip import GlipModel
from glip.predictor import Predictor
from glip.structures.output import GlipOutput
from tools import nano_pictures
from tools.nano_parts import BeyondCoco
from tools.nano_phrases import Phrases
from tools.nano_pictures import PictureTeacher, Taught, alignment_loss, merge_boxes
from tools.nano_places import NECK, Places, cue_factors, view_photo
from tools.nano_words import LAST_RATE, WORDS_RATE

CUP = (170.0, 18.0, 411.0, 272.0)
CLASSES = ("person", "cup")


def likeness(names: Sequence[str]) -> Tensor:
    return torch.zeros(len(names), len(CLASSES))


@pytest.fixture
def model(predictor: Predictor) -> GlipModel:
    copied: GlipModel = copy.deepcopy(predictor.model).eval()
    return copied


@pytest.fixture
def teacher(model: GlipModel, predictor: Predictor, tmp_path: Path) -> PictureTeacher:
    rules = tmp_path / "rules.yaml"
    rules.write_text("parts: []\nlike: []\n")
    words = Words(same={}, wider={"thing": list(CLASSES)}, adjectives=["old"], person_adjectives=["tall"])
    phrases = Phrases(CLASSES, words, ["sky"], likeness)
    beyond = BeyondCoco(CLASSES, rules, UsualPlaces({}, {}, {}))
    classifier = torch.zeros(124, 128), torch.zeros(124)
    return PictureTeacher(model, predictor.processor, classifier, phrases, beyond, [], [])


@pytest.fixture
def scene(photos: Path) -> Example:
    things = (GroundedObject(CUP, "cup", ((0, 5),)),)
    return Example(photos / "coffee.jpg", (400, 600), things, caption="a cup on a table")


def gradients(model: GlipModel) -> dict[str, float]:
    return {name: float(p.grad.abs().sum()) for name, p in model.named_parameters() if p.grad is not None}


def test_only_the_blocks_picture_side_and_the_box_head_learn(teacher: PictureTeacher) -> None:
    learning = {id(weight) for weights in teacher.learning().values() for weight in weights}
    named = {name for name, weight in teacher.model.named_parameters() if id(weight) in learning}
    assert {name.split(".")[0] for name in named} == {"blocks", "head"}
    assert {name for name in named if name.startswith("head")} == {"head.box.weight", "head.box.bias"}
    assert not any("text_layer" in name or "word_norm" in name for name in named)
    assert {name for name, weight in teacher.model.named_parameters() if weight.requires_grad} == named


def test_words_learn_too_where_they_are_asked_to(teacher: PictureTeacher) -> None:
    learning = teacher.learning(words=0.5)
    rates = {id(weight): rate for rate, weights in learning.items() for weight in weights}
    of = {name: rates[id(weight)] for name, weight in teacher.model.named_parameters() if id(weight) in rates}
    assert of["blocks.0.text_layer.attention_out.weight"] == 0.5 * WORDS_RATE
    assert of["head.word_projection.weight"] == 0.5 * LAST_RATE
    assert not any(name.startswith(("backbone", "text_encoder", "fpn", "cues")) for name in of)


def test_a_scene_teaches_the_blocks_and_the_box_head(teacher: PictureTeacher, scene: Example) -> None:
    teacher.learning()
    teacher.boxes_loss(scene).backward()
    found = gradients(teacher.model)
    assert found["blocks.0.dyconv.from_same.conv.weight"] > 0
    assert found["blocks.1.fusion.word_value.weight"] > 0
    assert found["head.box.weight"] > 0


def test_a_scene_without_boxes_teaches_that_nothing_is_there(teacher: PictureTeacher, photos: Path) -> None:
    teacher.learning()
    loss = teacher.boxes_loss(Example(photos / "coffee.jpg", (400, 600), (), absent=("dog", "cat")))
    loss.backward()
    found = gradients(teacher.model)
    assert found["blocks.0.dyconv.from_same.conv.weight"] > 0
    assert found.get("head.box.weight", 0) == 0


def test_a_photos_boxes_should_stay_where_they_are(teacher: PictureTeacher, predictor: Predictor, photos: Path) -> None:
    view = view_photo(teacher.model, predictor.processor, str(photos / "coffee.jpg"))
    count = len(view.boxes)
    nowhere = Places(torch.empty(0), torch.full((count, len(CLASSES)), 1e-6), _no_cues(count))
    losses = []
    with torch.no_grad():
        for shift in (0.0, 1.0):
            teacher.draw.seed(1)  # the same caption
            shifted = replace(view, deltas=view.deltas + shift)
            losses.append(float(teacher.photo_loss(Taught(shifted, nowhere, [1], []))))
    assert losses[1] - losses[0] == pytest.approx(4 * 0.5, abs=0.2)  # smooth L1 of a shift by 1, four numbers


def _no_cues(count: int) -> dict[str, Tensor]:
    return {name: torch.ones(count) for name in cue_factors(torch.zeros(1, 4), torch.zeros(1, PALETTE))}


def test_boxes_and_words_are_mirrored_with_their_picture(
    teacher: PictureTeacher, scene: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mirrored.png"
    ImageOps.mirror(read_image(str(scene.image))).save(file)
    losses = []
    for share, example in ((1.0, scene), (0.0, replace(mirror(scene, scene.size[1]), image=file))):
        monkeypatch.setattr(nano_pictures, "MIRRORED", share)
        teacher.draw.seed(1)
        losses.append(teacher.boxes_loss(example).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    monkeypatch.setattr(nano_pictures, "MIRRORED", 0.0)
    teacher.draw.seed(1)
    assert teacher.boxes_loss(replace(scene, image=file)).item() > 1.1 * losses[0]  # the cup is on the other side


def test_only_so_many_views_are_kept(teacher: PictureTeacher, scene: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nano_pictures, "MOST_VIEWS", 1)
    for share in (0.0, 1.0):
        monkeypatch.setattr(nano_pictures, "MIRRORED", share)
        teacher.boxes_loss(scene)
    assert [is_mirrored for _, is_mirrored in teacher.views] == [True]


def test_a_picture_is_seen_mirrored(teacher: PictureTeacher, predictor: Predictor, photos: Path) -> None:
    file = str(photos / "coffee.jpg")
    plain, mirrored = (view_photo(teacher.model, predictor.processor, file, mirrored=m) for m in (False, True))
    columns = plain.size[1] // 8  # of the finest level, without padding
    colours = [view.levels[0][0, NECK : NECK + PALETTE, :, :columns] for view in (plain, mirrored)]
    inside = slice(1, -1)  # the last column sees the padding
    torch.testing.assert_close(colours[0].flip(2)[..., inside], colours[1][..., inside], atol=0.02 * STRENGTH, rtol=0)
    assert (colours[0] - colours[1]).abs().max() > 0.5 * STRENGTH


def test_a_thing_with_two_names_counts_once() -> None:
    boxes = ((0.0, 0.0, 5.0, 5.0), (1.0, 1.0, 2.0, 2.0), (0.0, 0.0, 5.0, 5.0), (3.0, 3.0, 4.0, 4.0))
    example = Example(Path("x.jpg"), (8, 8), tuple(GroundedObject(box, "") for box in boxes))
    # tokens 0 and 2 are of phrase 0, token 1 of phrase 1, token 3 of none; the last object has no name in this caption
    distinct, token_map = merge_boxes(example, torch.tensor([0, 1, 1, -1]), torch.tensor([0, 1, 0, 2]))
    assert distinct.tolist() == [list(boxes[0]), list(boxes[1])]
    assert token_map.tolist() == [[True, True, True, False], [False, True, False, False]]


def test_a_picture_without_things_has_none() -> None:
    boxes, token_map = merge_boxes(Example(Path("x.jpg"), (8, 8), ()), torch.tensor([]), torch.tensor([0, 1]))
    assert (boxes.shape, token_map.shape) == ((0, 4), (0, 2))


# --- the loss of words -------------------------------------------------------------------------------------------


def output_of(logits: list[list[float]]) -> GlipOutput:
    """One picture; rows are tokens."""
    alignment = torch.tensor(logits).T[None]
    count, length = alignment.shape[1:]
    return GlipOutput(
        alignment_logits=alignment,
        box_deltas=torch.zeros(1, count, 4),
        centerness_logits=torch.zeros(1, count),
        level_shapes=((1, count),),
        strides=(8,),
        image_sizes=torch.tensor([[8, 8 * count]]),
        input_ids=torch.zeros(1, length, dtype=torch.int64),
        attention_mask=torch.ones(1, length, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("logits", "truth", "loss"),
    [
        pytest.param([[0.0, 0.0]], [[0.5, 0.5]], 0.0, id="tokens that say what they should"),
        pytest.param([[0.0, 0.0]], [[0.0, 0.0]], math.log(2), id="two of an absent token at one half, over 1"),
        pytest.param([[0.0] * 4], [[1.0] * 4], math.log(2) / 2, id="four positions of a present one, over 4"),
        pytest.param([[0.0] * 4, [0.0] * 4], [[0.5] * 4, [1.0] * 4], math.log(2) / 4, id="the mean of two tokens"),
    ],
)
def test_the_loss_of_words(logits: list[list[float]], truth: list[list[float]], loss: float) -> None:
    found = alignment_loss(output_of(logits), torch.tensor(truth))
    assert float(found) == pytest.approx(loss)
