"""`ZeroShotClassifier`: a class is the mean of its sentences' features; pictures get a probability for each class."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from glip.clip_processing import ClipImageProcessor, ClipProcessor
from glip.errors import CheckpointError, ConfigError, FileError, ImageError, PromptError
from glip.images import ImageInput
from glip.text.templates import SEVEN
from glip.zero_shot import Classification, ZeroShotClassifier
from tests.reference.tiny_models import TINY_TEXT, tiny_clip, tiny_model

BERT_VOCABULARY = 30522


@pytest.fixture
def classifier(tokenizer: PreTrainedTokenizerBase) -> ZeroShotClassifier:
    model = tiny_clip("csp", text={**TINY_TEXT, "vocab_size": BERT_VOCABULARY})
    return ZeroShotClassifier(model, ClipProcessor(ClipImageProcessor(32), tokenizer), batch_size=2)


PICTURES: list[ImageInput] = [Image.new("RGB", (40, 50), colour) for colour in ("red", "green", "blue")]


def test_each_picture_gets_a_probability_for_each_class(classifier: ZeroShotClassifier) -> None:
    found = classifier.classify(PICTURES, ["cat", "dog"])
    assert [one.names for one in found] == [("cat", "dog")] * 3
    torch.testing.assert_close(torch.stack([one.scores for one in found]).sum(dim=1), torch.ones(3))


def test_one_picture_gives_a_list_of_one(classifier: ZeroShotClassifier) -> None:
    (found,) = classifier.classify(PICTURES[0], ["cat"])
    assert found.scores.tolist() == [1.0]


def test_no_picture_gives_no_answer(classifier: ZeroShotClassifier) -> None:
    assert classifier.classify([], ["cat"]) == []


def test_batches_change_nothing(classifier: ZeroShotClassifier) -> None:
    together = classifier.image_features(PICTURES)
    for picture, features in zip(PICTURES, together, strict=True):
        torch.testing.assert_close(classifier.image_features([picture])[0], features)


def test_a_class_is_the_mean_of_its_sentences_of_norm_one(classifier: ZeroShotClassifier) -> None:
    found = classifier.class_vectors(["cat", "fire_truck"], 7)
    for name, vector in zip(["cat", "fire truck"], found, strict=True):
        features = torch.cat([classifier.text_features([template.replace("{}", name)]) for template in SEVEN])
        torch.testing.assert_close(vector, F.normalize(features.mean(dim=0), dim=0))


def test_the_probabilities_are_the_softmax_of_scaled_similarities(classifier: ZeroShotClassifier) -> None:
    (found,) = classifier.classify(PICTURES[0], ["cat", "dog"], 1)
    similarities = classifier.image_features(PICTURES[:1]) @ classifier.class_vectors(["cat", "dog"], 1).T
    torch.testing.assert_close(found.scores, (similarities[0] / 0.07).softmax(dim=0))


def test_vectors_are_computed_once(classifier: ZeroShotClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    first = classifier.class_vectors(["cat", "dog"])
    monkeypatch.setattr(classifier, "text_features", lambda _: pytest.fail("computed again"))
    second = classifier.class_vectors(["cat", "dog"])
    assert torch.equal(first, second)
    second.zero_()  # the caller's copy
    assert torch.equal(classifier.class_vectors(["cat", "dog"]), first)


def test_vectors_are_computed_again_for_other_words_or_weights(classifier: ZeroShotClassifier) -> None:
    first = classifier.class_vectors(["cat", "dog"])
    assert not torch.equal(classifier.class_vectors(["dog", "cat"]), first)
    assert not torch.equal(classifier.class_vectors(["cat", "dog"], 1), first)
    with torch.no_grad():
        classifier.model.text_projection.weight.mul_(torch.rand(16, 1))
    assert not torch.equal(classifier.class_vectors(["cat", "dog"]), first)


def test_only_some_class_lists_are_kept(classifier: ZeroShotClassifier) -> None:
    for number in range(20):
        classifier.class_vectors([f"thing {number}"], 0)
    assert len(classifier._kept) == 16


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(1, [("b", 0.5)], id="one"),
        pytest.param(2, [("b", 0.5), ("c", 0.25)], id="two"),
        pytest.param(9, [("b", 0.5), ("c", 0.25), ("a", 0.125)], id="more than there are"),
    ],
)
def test_the_best_classes_come_first(count: int, expected: list[tuple[str, float]]) -> None:
    assert Classification(("a", "b", "c"), torch.tensor([0.125, 0.5, 0.25])).top(count) == expected


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        pytest.param([], "at least one name", id="no class"),
        pytest.param("cat", r"write \['cat', 'dog'\]", id="a string"),
        pytest.param(["cat", ""], "must have words", id="an empty name"),
    ],
)
def test_classes_are_refused(classifier: ZeroShotClassifier, classes: list[str], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        classifier.classify(PICTURES, classes)


def test_what_is_no_picture_is_refused(classifier: ZeroShotClassifier) -> None:
    with pytest.raises(ImageError, match="must be a path"):
        classifier.classify([3], ["cat"])  # type: ignore[list-item]


def test_batches_of_none_are_refused(classifier: ZeroShotClassifier) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        ZeroShotClassifier(classifier.model, classifier.processor, batch_size=0)


def test_a_saved_classifier_says_the_same(classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    classifier.model.save_pretrained(tmp_path)
    classifier.processor.save_pretrained(tmp_path)
    loaded = ZeroShotClassifier.from_pretrained(tmp_path)
    for found, expected in zip(
        loaded.classify(PICTURES, ["cat", "dog"]), classifier.classify(PICTURES, ["cat", "dog"]), strict=True
    ):
        torch.testing.assert_close(found.scores, expected.scores)


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    tiny_model("csp").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="of a 'glip' model"):
        ZeroShotClassifier.from_pretrained(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no model"):
        ZeroShotClassifier.from_pretrained(tmp_path / "gone")
