"""The tools that glip-nano is made and judged with."""

import random
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from glip.data.compositional import Pair
from glip.data.describe import Words
from glip.errors import FileError
from glip.predictor import Predictor
from tools.distil_nano import BOXED, quality_focal_loss
from tools.evaluate_pipeline import TwoModels, paired_interval
from tools.evaluate_scenes import answers
from tools.nano_phrases import Phrases
from tools.unpack_cutouts import resource_entries, write_cutouts

# --- phrases -----------------------------------------------------------------------------------------------------

WORDS = Words(
    same={"dog": ["hound"], "cup": ["glass"], "bottle": ["glass"]},
    wider={"animal": ["dog", "cat"]},
    adjectives=["red"],
    person_adjectives=["tall"],
)
CLASSES = ("person", "dog", "cat", "cup", "bottle")


def likeness(names: Sequence[str]) -> Tensor:
    """Everything unknown is mostly a bottle."""
    return torch.tensor([[0.0, 0.1, 0.1, 0.1, 0.7]] * len(names))


@pytest.fixture(scope="module")
def phrases() -> Phrases:
    return Phrases(CLASSES, WORDS, ["teapot", "dog"], likeness)


@pytest.mark.parametrize(
    ("form", "shares"),
    [
        ("dog", [0, 1, 0, 0, 0]),
        ("hound", [0, 1, 0, 0, 0]),
        ("dogs", [0, 1, 0, 0, 0]),
        ("glass", [0, 0, 0, 1, 1]),
        ("animal", [0, 1, 1, 0, 0]),
        ("teapot", [0, 0.1, 0.1, 0.1, 0.7]),
    ],
    ids=["a name", "another word", "a plural", "a word of two classes", "a wider word", "a name that no class has"],
)
def test_what_a_phrase_means(phrases: Phrases, form: str, shares: list[float]) -> None:
    torch.testing.assert_close(phrases.shares[form], torch.tensor(shares, dtype=torch.float32))


@pytest.mark.parametrize("seed", range(20))
def test_a_caption_holds_its_phrases_where_the_spans_say(phrases: Phrases, seed: int) -> None:
    prompt, shares = phrases.caption([1], random.Random(seed))
    assert len(prompt.phrases) == len(shares) >= 1
    for phrase in prompt.phrases:
        assert [prompt.caption[start:end] for start, end in phrase.spans] == [phrase.text]


# --- distillation ------------------------------------------------------------------------------------------------


def test_the_distillation_loss_of_one_token_by_hand() -> None:
    """|sigmoid(0) - 0.8|^2 x cross-entropy(0, 0.8), divided by the wanted scores, at least 1."""
    loss = quality_focal_loss(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.8), torch.ones(1, 1))
    assert loss.item() == pytest.approx(0.3**2 * 0.6931472)


def test_padding_teaches_nothing_and_missing_levels_teach_absence() -> None:
    logits = torch.zeros(1, 2, 2)
    wanted = torch.zeros(1, 1, 2)  # the second position has no teacher
    loss = quality_focal_loss(logits, wanted, torch.tensor([[1, 0]]))
    assert loss.item() == pytest.approx(2 * 0.25 * 0.6931472)
    assert BOXED > 0


def test_the_pipelines_best_box_depends_on_the_words(predictor: Predictor) -> None:
    """The detector is surest of its first box, a person; the word is nearer to what the second one shows."""
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [5.0, 5.0, 9.0, 9.0]])
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.5]])
    near = {"a man": [0.9, 0.1], "a pup": [0.2, 0.8]}
    pipeline = TwoModels(
        lambda _: (boxes, scores), lambda names: torch.tensor([near[name] for name in names]), predictor.processor
    )
    found = pipeline.ground(Path("photo.jpg"), "a man and a pup", [(0, 5), (10, 15)], threshold=0.0)
    assert found[found.labels == 0].boxes[0].tolist() == boxes[0].tolist()
    assert found[found.labels == 1].boxes[0].tolist() == boxes[1].tolist()
    assert found[found.labels == 1].scores.tolist() == pytest.approx([0.4, 0.18])
    assert pipeline.refer(Path("photo.jpg"), "a pup").boxes.tolist() == [boxes[1].tolist()]


# --- pipeline and scenes -----------------------------------------------------------------------------------------


def test_the_paired_difference_and_its_interval() -> None:
    report = paired_interval([True, True, True, False], [False, True, False, False], ["a", "a", "b", "b"])
    assert report["difference"] == 0.5
    assert report["95 % interval"] == [0.5, 0.5]  # both photos differ by one of two
    assert report["share of draws in which ours is better"] == 1.0


def pair(kind: str) -> Pair:
    return Pair(Image.new("RGB", (4, 4)), kind, ("one", "other"), ((0, 0, 1, 1), (2, 2, 3, 3)))


@pytest.mark.parametrize(
    ("kind", "scores", "expected"),
    [
        ("colour", [(0.9, 0.1), (0.2, 0.3)], [1.0, 1.0]),
        ("colour", [(0.9, 0.1), (0.9, 0.1)], [1.0, 0.0]),
        ("colour", [(0.0, 0.0), (0.0, 0.0)], [0.5, 0.5]),
        ("none", [(0.9, 0.1), (0.2, 0.95)], [1.0]),
        ("none", [(0.3, 0.1), (0.4, 0.0)], [0.0]),
    ],
    ids=["both right", "blind to words", "nothing found", "the false phrase is lower", "the false phrase is higher"],
)
def test_answers_to_a_pair(kind: str, scores: list[tuple[float, float]], expected: list[float]) -> None:
    assert answers(pair(kind), scores) == expected


# --- unpacking ---------------------------------------------------------------------------------------------------


def qt_resources(name: str, content: bytes, *, is_deflated: bool) -> bytes:
    """A Qt resource archive, version 1, with one file in its root."""
    packed = struct.pack(">I", len(content)) + zlib.compress(content) if is_deflated else content
    names = struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    root = struct.pack(">IHII", 0, 2, 1, 1)
    file = struct.pack(">IHHHI", 0, int(is_deflated), 0, 0, 0)
    body = struct.pack(">I", len(packed)) + packed
    start = 20
    tree, data = start, start + len(root) + len(file)
    header = b"qres" + struct.pack(">4I", 1, tree, data, data + len(body))
    return header + root + file + body + names


@pytest.mark.parametrize("is_deflated", [False, True], ids=["plain", "deflated"])
def test_a_qt_resource_archive_is_read(is_deflated: bool) -> None:
    archive = qt_resources("tower.webp", b"pixels", is_deflated=is_deflated)
    assert list(resource_entries(archive)) == [("/tower.webp", b"pixels")]


def test_another_file_is_refused() -> None:
    with pytest.raises(FileError, match="Qt resource file"):
        list(resource_entries(b"PK\x03\x04"))


def test_cutouts_without_anything_opaque_or_large_are_left_out(tmp_path: Path) -> None:
    clear, small = Image.new("RGBA", (90, 90)), Image.new("RGBA", (20, 20), (9, 9, 9, 255))
    large = Image.new("RGBA", (90, 90))
    large.paste((200, 0, 0, 255), (10, 20, 70, 80))
    assert write_cutouts(iter([("air", clear), ("pea", small), ("ball", large)]), tmp_path / "out") == 1
    assert '"bbox": [\n   10,\n   20,\n   70,\n   80\n  ]' in (tmp_path / "out" / "index.json").read_text()
