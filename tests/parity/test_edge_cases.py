"""Odd inputs: what the official code does was recorded; where that is an error or a wrong label, we do better.

Each recorded case has a test here that says what happens instead.
"""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from glip.detection.losses import GlipCriterion
from glip.detection.postprocess import Aggregation, PostProcessor
from glip.errors import PromptError
from glip.structures.output import GlipOutput
from glip.structures.targets import Targets
from glip.text.prompts import prompt_from_caption, prompt_from_labels
from glip.text.tokens import pack_labels, tokenize_prompts
from tests.parity.official import DATA, Record

BOTH = pytest.mark.parametrize("aggregation", ["mean", "max"])
RECORDED = json.loads((DATA / "edge_cases.json").read_text())
CAT, EMPTY = [3], list[int]()


@pytest.fixture(scope="module")
def output() -> GlipOutput:
    """The recorded head outputs of `person. cat. coffee cup. spoon`."""
    return Record(DATA, "public").output()


def decode(output: GlipOutput, rows: list[list[int]], aggregation: Aggregation = "mean") -> tuple[Tensor, Tensor]:
    """Scores and labels of what is found for phrases that are named by these tokens."""
    token_map = torch.zeros(len(rows), output.alignment_logits.shape[2], dtype=torch.bool)
    for row, tokens in enumerate(rows):
        token_map[row, tokens] = True
    _, scores, labels = PostProcessor(aggregation=aggregation).decode(output, 0, token_map)
    return scores, labels


def found_labels(output: GlipOutput, rows: list[list[int]], aggregation: Aggregation = "mean") -> list[int]:
    """Which labels are among the detections."""
    labels: list[int] = decode(output, rows, aggregation)[1].unique().tolist()
    return labels


@pytest.mark.parametrize(
    ("case", "count"),
    [
        pytest.param("label 81 (NUM_CLASSES-1 = 80 columns)", 81, id="the 81st phrase, an error officially"),
        pytest.param("MDETR_STYLE_AGGREGATE_CLASS_NUM 3000, label 1203", 1203, id="LVIS's last phrase"),
    ],
)
def test_there_may_be_any_number_of_phrases(case: str, count: int, output: GlipOutput) -> None:
    assert RECORDED[case] == "[1203]" or "IndexError" in RECORDED[case]
    assert found_labels(output, [*[EMPTY] * (count - 1), CAT]) == [count - 1]


def test_the_first_label_is_0_and_means_the_first_phrase(output: GlipOutput) -> None:
    assert RECORDED["label key 0 (writes column -1 = label 80)"] == "[80]"
    assert found_labels(output, [CAT]) == [0]


@BOTH
def test_a_phrase_without_tokens_is_never_found(aggregation: Aggregation, output: GlipOutput) -> None:
    assert RECORDED["label with empty token list, MEAN"] == "{'n': 100, 'labels': [1]}"
    assert "IndexError" in RECORDED["label with empty token list, MAX"]
    scores, labels = decode(output, [CAT, EMPTY], aggregation)
    assert labels.unique().tolist() == [0]
    torch.testing.assert_close(scores, decode(output, [CAT], aggregation)[0])
    assert found_labels(output, [EMPTY], aggregation) == []


@BOTH
def test_no_phrases_means_nothing_found(aggregation: Aggregation, output: GlipOutput) -> None:
    assert RECORDED["empty positive map"] == RECORDED["positive_map None"] == "0"
    assert len(decode(output, [], aggregation)[0]) == 0


def test_a_caption_beyond_256_tokens_is_refused_before_it_has_a_257th(tokenizer: PreTrainedTokenizerBase) -> None:
    assert "IndexError" in RECORDED["token index 256"]
    prompt = prompt_from_labels(["cat"] * 128)  # 128 names, 127 separators, CLS and SEP: 257
    with pytest.raises(PromptError, match="has 257 tokens, at most 256 fit"):
        tokenize_prompts([prompt], tokenizer)
    assert [len(part.phrases) for part in pack_labels(["cat"] * 128, tokenizer)] == [127, 1]


@pytest.mark.parametrize("caption", ["", " "])
def test_an_empty_caption_is_refused(caption: str) -> None:
    assert RECORDED["empty caption"] == "100"  # boxes for no words
    with pytest.raises(PromptError, match="the caption must be a sentence"):
        prompt_from_caption(caption, [])


def test_no_class_names_are_refused() -> None:
    with pytest.raises(PromptError, match="at least one class"):
        prompt_from_labels([])


def losses_for(output: GlipOutput, boxes: list[list[float]]) -> dict[str, Tensor]:
    """Losses of the recorded outputs, had the image these boxes of a cat."""
    truth = torch.tensor(boxes).view(-1, 4)
    token_map = torch.zeros(len(truth), output.alignment_logits.shape[2], dtype=torch.bool)
    token_map[:, CAT] = True
    return GlipCriterion()(output, [Targets(truth, token_map, torch.zeros(len(truth), dtype=torch.int64))])


def test_an_image_without_boxes_teaches_what_is_absent(output: GlipOutput) -> None:
    assert "RuntimeError" in RECORDED["training image with no gt"]
    leaf = output.alignment_logits.clone().requires_grad_()
    losses = losses_for(replace(output, alignment_logits=leaf), [])
    assert float(losses["loss_giou"]) == float(losses["loss_centerness"]) == 0.0
    losses["loss_alignment"].backward()
    assert leaf.grad is not None
    real = output.attention_mask[0]
    assert bool((leaf.grad[..., real] > 0).all())  # every logit of every real word is pushed down


def test_a_box_that_no_anchor_answers_for_leaves_the_token_loss_alone(output: GlipOutput) -> None:
    recorded = RECORDED["training image whose only gt gets no positive anchor"]
    assert "'loss_reg': 0.0, 'loss_centerness': 0.0" in recorded
    between_centres = [5.0, 5.0, 7.0, 7.0]  # centres stand at 3.5, 11.5, ...: none is inside
    losses, empty = losses_for(output, [between_centres]), losses_for(output, [])
    assert float(losses["loss_giou"]) == float(losses["loss_centerness"]) == 0.0
    torch.testing.assert_close(losses["loss_alignment"], empty["loss_alignment"])
    assert float(losses["loss_alignment"]) > 1.0
    inside = losses_for(output, [[2.0, 2.0, 40.0, 40.0]])
    assert float(inside["loss_giou"]) > 0.1  # the same, had an anchor answered


def test_every_recorded_case_has_its_answer_here() -> None:
    assert len(RECORDED) == 11
