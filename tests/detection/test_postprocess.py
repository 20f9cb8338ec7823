"""A phrase's score is its tokens' mean probability; with centerness, thresholds and NMS it becomes detections."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.detection.anchors import make_anchors
from glip.detection.box_coder import encode_boxes
from glip.detection.postprocess import PostProcessor, aggregate_scores, apply_threshold, compete, favour_length
from glip.errors import ConfigError
from glip.structures.detections import Detections
from glip.structures.output import GlipOutput
from glip.structures.prompt import Phrase, Prompt

# Tokens: 0 CLS, 1 person, 2 ".", 3 traffic, 4 light, 5 SEP
PROMPT = Prompt("person. traffic light", (Phrase("person", ((0, 6),), 0), Phrase("traffic light", ((8, 21),), 1)))
TOKEN_MAP = torch.tensor([[False, True, False, False, False, False], [False, False, False, True, True, False]])
SHAPES, STRIDES, SIZE = ((2, 3), (1, 2)), (8, 16), (16, 24)
ANCHORS = make_anchors(SHAPES, STRIDES)
COUNT = len(ANCHORS)


def make_output(
    probabilities: Mapping[int, list[float]],
    *,
    centerness: float = 0.64,
    boxes: Mapping[int, list[float]] | None = None,
) -> GlipOutput:
    """One image of 16 by 24 pixels; anchors that are not named believe in nothing, their box is the anchor."""
    scores = torch.full((1, COUNT, 6), 1e-6)
    deltas = torch.zeros(1, COUNT, 4)
    for anchor, row in probabilities.items():
        scores[0, anchor] = torch.tensor(row)
    for anchor, box in (boxes or {}).items():
        deltas[0, anchor] = encode_boxes(torch.tensor([box]), ANCHORS[anchor : anchor + 1])[0]
    return GlipOutput(
        alignment_logits=scores.logit(),
        box_deltas=deltas,
        centerness_logits=torch.full((1, COUNT), centerness).logit(),
        level_shapes=SHAPES,
        strides=STRIDES,
        image_sizes=torch.tensor([SIZE]),
        input_ids=torch.zeros(1, 6, dtype=torch.int64),
        attention_mask=torch.ones(1, 6, dtype=torch.bool),
    )


def detect(output: GlipOutput, rules: PostProcessor | None = None, **options: Any) -> Detections:
    (found,) = (rules or PostProcessor())(output, [PROMPT], [TOKEN_MAP], [SIZE], **options)
    return found


def rows(found: Detections) -> list[tuple[str, float]]:
    return [(text, round(score, 4)) for text, score in zip(found.text_labels, found.scores.tolist(), strict=True)]


BOTH = [0.01, 0.8, 0.01, 0.5, 0.7, 0.01]
PERSON = [0.01, 0.8, 0.01, 0.01, 0.01, 0.01]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param(PostProcessor(), [("person", 0.7155), ("traffic light", 0.6197)], id="the mean of tokens"),
        pytest.param(
            PostProcessor(aggregation="max"), [("person", 0.7155), ("traffic light", 0.6693)], id="the best token"
        ),
        pytest.param(
            PostProcessor(aggregation=2.0), [("person", 0.7155), ("traffic light", 0.6239)], id="a power mean of tokens"
        ),
    ],
)
def test_the_worked_example_with(rules: PostProcessor, expected: list[tuple[str, float]]) -> None:
    # sqrt(0.8 * 0.64); sqrt(mean(0.5, 0.7) * 0.64); sqrt(0.7 * 0.64); sqrt(sqrt(mean(0.25, 0.49)) * 0.64): one location
    # answers to two phrases
    found = detect(make_output({1: BOTH}), rules)
    assert rows(found) == expected
    assert found.phrases == ("person", "traffic light")
    assert found.spans == (((0, 6),), ((8, 21),))
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize("aggregation", ["mean", "max", 4.0])
def test_a_phrase_without_tokens_scores_zero_by(aggregation: Any) -> None:
    scores = aggregate_scores(torch.full((2, 6), 3.0), torch.stack([TOKEN_MAP[0], TOKEN_MAP[0] & False]), aggregation)
    torch.testing.assert_close(scores, torch.tensor([[0.95257413, 0.0], [0.95257413, 0.0]]))


@pytest.mark.parametrize("aggregation", ["mean", "max", 4.0])
def test_no_phrases_have_no_scores_by(aggregation: Any) -> None:
    assert aggregate_scores(torch.zeros(2, 6), TOKEN_MAP[:0], aggregation).shape == (2, 0)


@pytest.mark.parametrize("aggregation", ["mean", "max", 4.0])
def test_no_anchors_have_no_scores_by(aggregation: Any) -> None:
    assert aggregate_scores(torch.zeros(0, 6), TOKEN_MAP, aggregation).shape == (0, 2)


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        (0.0, [[0.8, 0.2], [0.1, 0.4], [0.0, 0.0]]),
        (0.5, [[0.8, 0.1], [0.05, 0.4], [0.0, 0.0]]),  # 0.2 * (0.2 / 0.8) ** 0.5
        (1.0, [[0.8, 0.05], [0.025, 0.4], [0.0, 0.0]]),
    ],
)
def test_where_another_phrase_answers_better_a_score_is_lower(strength: float, expected: list[list[float]]) -> None:
    scores = torch.tensor([[0.8, 0.2], [0.1, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(compete(scores, strength), torch.tensor(expected))


@pytest.mark.parametrize("shape", [(3, 1), (3, 0), (0, 2)], ids=["one phrase", "no phrase", "no anchors"])
def test_there_is_no_competition_for(shape: tuple[int, int]) -> None:
    scores = torch.full(shape, 0.3)
    torch.testing.assert_close(compete(scores, 0.5), scores)


def test_competition_keeps_a_phrase_away_from_anothers_things() -> None:
    output = make_output({0: [0, 0.64, 0, 0.16, 0.16, 0]}, centerness=1 - 1e-6)
    found = detect(output, PostProcessor(competition=0.5))
    assert rows(found) == [("person", 0.8), ("traffic light", 0.2828)]  # (0.16 * 0.5) ** 0.5


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        (0.0, [[0.5, 0.5], [0.2, 0.0], [1.0, 1.0]]),
        (1.0, [[0.5, 2 / 3], [0.2, 0.0], [1.0, 1.0]]),  # odds of 1 for one token, of 2 for two
        (2.0, [[0.5, 0.8], [0.2, 0.0], [1.0, 1.0]]),
    ],
)
def test_a_phrase_of_two_tokens_has_higher_odds(strength: float, expected: list[list[float]]) -> None:
    scores = torch.tensor([[0.5, 0.5], [0.2, 0.0], [1.0, 1.0]])
    torch.testing.assert_close(favour_length(scores, TOKEN_MAP, strength), torch.tensor(expected))


@pytest.mark.parametrize(
    ("scores", "token_map"),
    [
        pytest.param(torch.zeros(0, 2), TOKEN_MAP, id="no anchors"),
        pytest.param(torch.zeros(3, 0), TOKEN_MAP[:0], id="no phrases"),
        pytest.param(torch.full((3, 1), 0.4), TOKEN_MAP[:1] & False, id="a phrase without tokens"),
        pytest.param(torch.full((3, 1), 0.4), TOKEN_MAP[:1], id="a phrase of one token"),
    ],
)
def test_length_changes_nothing_for(scores: Tensor, token_map: Tensor) -> None:
    torch.testing.assert_close(favour_length(scores, token_map, 1.0), scores)


def test_length_comes_after_competition() -> None:
    output = make_output({0: [0, 0.64, 0, 0.16, 0.16, 0]}, centerness=1 - 1e-6)
    found = detect(output, PostProcessor(competition=1.0, length_gain=2.0))
    assert rows(found) == [
        ("person", 0.8),
        ("traffic light", 0.378),
    ]  # 0.16 * 0.25; odds 1 / 24, then 4 / 24; (1 / 7) ** 0.5


def test_nothing_found_is_an_empty_answer_that_still_names_the_phrases() -> None:
    found = detect(make_output({}))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.phrases == ("person", "traffic light")


@pytest.mark.parametrize(
    ("score", "centerness", "count"),
    [
        pytest.param(0.06, 0.5, 1, id="over 0.05 though its centerness is a half"),
        pytest.param(0.04, 0.999, 0, id="under 0.05 though its centerness is 1"),
    ],
)
def test_a_phrase_is_a_candidate_by_its_score_before_centerness(score: float, centerness: float, count: int) -> None:
    output = make_output({1: [0.0001, score, 0.0001, 0.0001, 0.0001, 0.0001]}, centerness=centerness)
    assert len(detect(output)) == count


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        pytest.param(0.0, ["person", "traffic light"], id="none"),
        pytest.param(0.65, ["person"], id="one for all"),
        pytest.param({"person": 0.75}, ["traffic light"], id="one for a phrase, none for the other"),
        pytest.param({"person": 0.7, "traffic light": 0.65}, ["person"], id="one for each"),
        pytest.param({}, ["person", "traffic light"], id="an empty table"),
        pytest.param(1.0, [], id="one that nothing reaches"),
    ],
)
def test_thresholds(threshold: float | dict[str, float], expected: list[str]) -> None:
    assert detect(make_output({1: BOTH}), threshold=threshold).text_labels == expected


def test_a_score_at_the_threshold_stays() -> None:
    found = Detections(torch.zeros(2, 4), torch.tensor([0.5, 0.25]), torch.tensor([0, 0]), ("cat",))
    assert apply_threshold(found, 0.5).scores.tolist() == [0.5]
    assert apply_threshold(found, {"cat": 0.25}).scores.tolist() == [0.5, 0.25]


def test_a_threshold_for_a_phrase_that_is_not_looked_for_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"a threshold for 'dog', which is not looked for; phrases: \('person'"):
        detect(make_output({1: BOTH}), threshold={"person": 0.5, "dog": 0.5})


def test_a_threshold_of_nothing_found_is_nothing() -> None:
    assert len(apply_threshold(Detections.empty(("cat",)), {"cat": 0.5})) == 0


def test_boxes_are_clipped_to_the_unpadded_image_and_scaled_to_the_original() -> None:
    # The network's image is 16 high and 24 wide; the last legacy corner is at 15 and 23. The original is twice as
    # high and three times as wide.
    output = make_output({1: PERSON, 4: PERSON}, boxes={1: [-5.0, -5.0, 99.0, 99.0], 4: [2.0, 3.0, 8.0, 10.0]})
    (found,) = PostProcessor()(output, [PROMPT], [TOKEN_MAP], [(32, 72)])
    torch.testing.assert_close(
        found.boxes, torch.tensor([[0.0, 0.0, 69.0, 30.0], [6.0, 6.0, 24.0, 20.0]]), rtol=1e-4, atol=1e-3
    )


def test_the_best_of_each_level_go_on_and_ties_stay_in_order() -> None:
    far_apart = {index: [3.0 * index, 0.0, 3.0 * index + 1, 1.0] for index in range(COUNT)}
    scores = {index: [0.01, 0.6 if index in (1, 3, 4) else 0.5, 0.01, 0.01, 0.01, 0.01] for index in range(COUNT)}
    output = make_output(scores, boxes=far_apart)
    found = detect(output, PostProcessor(candidates_per_level=2))
    # Anchors 1 and 3 of the fine level (4 is as good, but later), then 6 and 7 of the coarse one.
    torch.testing.assert_close(found.boxes[:, 0], torch.tensor([3.0, 9.0, 18.0, 21.0]), rtol=1e-3, atol=1e-2)


def test_candidates_are_ranked_with_their_centerness() -> None:
    output = make_output({0: [0.0, 0.9, 0, 0, 0, 0], 5: [0.0, 0.6, 0, 0, 0, 0]}, boxes={5: [10.0, 10.0, 14.0, 14.0]})
    output.centerness_logits[0, 0] = torch.tensor(0.1).logit()
    found = detect(output, PostProcessor(candidates_per_level=1))
    assert rows(found) == [("person", 0.6197)]  # 0.6 * 0.64 beats 0.9 * 0.1


def test_a_location_takes_two_of_the_levels_candidates_if_it_answers_to_two_phrases() -> None:
    output = make_output({0: BOTH, 5: PERSON}, boxes={5: [10.0, 10.0, 14.0, 14.0]})
    assert rows(detect(output, PostProcessor(candidates_per_level=2))) == [("person", 0.7155)] * 2


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_no_more_than_the_most_detections_are_given(limit: int) -> None:
    output = make_output({1: BOTH})
    assert (
        rows(detect(output, PostProcessor(max_detections=limit)))
        == [
            ("person", 0.7155),
            ("traffic light", 0.6197),
        ][:limit]
    )


@pytest.mark.parametrize(
    ("class_agnostic", "expected"),
    [
        pytest.param(False, ["person", "traffic light"], id="one box may be two things"),
        pytest.param(True, ["person"], id="one box is one thing"),
    ],
)
def test_by_the_rule_of_suppression(class_agnostic: bool, expected: list[str]) -> None:
    assert detect(make_output({1: BOTH}), PostProcessor(class_agnostic=class_agnostic)).text_labels == expected


@pytest.mark.parametrize(
    ("legacy", "count"),
    [pytest.param(True, 1, id="one pixel longer: 0.6"), pytest.param(False, 2, id="as they are: 0.571")],
)
def test_the_overlap_counts_sides(legacy: bool, count: int) -> None:
    # 11 pixels wide and moved by 3: 8 / 14; with a pixel more 9 / 15. The threshold lies between.
    output = make_output({1: PERSON, 2: PERSON}, boxes={1: [1.0, 1.0, 12.0, 5.0], 2: [4.0, 1.0, 15.0, 5.0]})
    assert len(detect(output, PostProcessor(legacy_iou=legacy, nms_threshold=0.59))) == count


def test_labels_of_a_chunk_index_the_callers_whole_list() -> None:
    chunk = Prompt(
        PROMPT.caption, tuple(replace(p, label=label) for p, label in zip(PROMPT.phrases, (40, 41), strict=True))
    )
    (found,) = PostProcessor()(make_output({1: BOTH}), [chunk], [TOKEN_MAP], [SIZE])
    assert found.labels.tolist() == [40, 41]
    assert found.text_labels == ["person", "traffic light"]
    assert found.phrases[:40] == ("",) * 40
    assert found.spans[40:] == (((0, 6),), ((8, 21),))


def test_phrases_may_stand_in_another_order_than_the_callers() -> None:
    swapped = Prompt(PROMPT.caption, tuple(replace(p, label=1 - p.label) for p in PROMPT.phrases))
    (found,) = PostProcessor()(make_output({1: BOTH}), [swapped], [TOKEN_MAP], [SIZE])
    assert found.phrases == ("traffic light", "person")
    assert rows(found) == [("person", 0.7155), ("traffic light", 0.6197)]
    assert found.labels.tolist() == [1, 0]


def stack(*outputs: GlipOutput) -> GlipOutput:
    tensors: dict[str, Any] = {
        name: torch.cat([output[name] for output in outputs])
        for name, value in outputs[0].items()
        if isinstance(value, Tensor)
    }
    return GlipOutput(**tensors, level_shapes=SHAPES, strides=STRIDES)


def test_a_batch_equals_its_images_one_by_one_and_inputs_are_unchanged() -> None:
    outputs = [make_output({1: BOTH}), make_output({}), make_output({5: PERSON, 7: BOTH})]
    batch = stack(*outputs)
    before = [value.clone() for value in batch.values() if isinstance(value, Tensor)]
    together = PostProcessor()(batch, [PROMPT] * 3, [TOKEN_MAP] * 3, [SIZE, (32, 48), (99, 7)])
    for found, output, size in zip(together, outputs, [SIZE, (32, 48), (99, 7)], strict=True):
        (alone,) = PostProcessor()(output, [PROMPT], [TOKEN_MAP], [size])
        torch.testing.assert_close(found.boxes, alone.boxes)
        torch.testing.assert_close(found.scores, alone.scores)
        assert torch.equal(found.labels, alone.labels)
    for value, copy in zip((v for v in batch.values() if isinstance(v, Tensor)), before, strict=True):
        assert torch.equal(value, copy)


def test_no_images_have_no_answers() -> None:
    nothing: dict[str, Any] = {name: v[:0] for name, v in make_output({}).items() if isinstance(v, Tensor)}
    assert PostProcessor()(GlipOutput(**nothing, level_shapes=SHAPES, strides=STRIDES), [], [], []) == []


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        pytest.param(
            {"aggregation": "median"}, "aggregation must be 'mean', 'max', or the power .* got 'median'", id="how"
        ),
        pytest.param(
            {"aggregation": 0.5}, "the power of a mean, at least 1, got 0.5", id="a power that favours the worst"
        ),
        pytest.param({"aggregation": True}, "the power of a mean, at least 1, got True", id="a power that is none"),
        pytest.param({"candidate_threshold": -0.1}, r"candidate_threshold must be in \[0, 1\], got -0.1", id="below 0"),
        pytest.param({"candidate_threshold": 1.5}, r"candidate_threshold must be in \[0, 1\], got 1.5", id="above 1"),
        pytest.param({"nms_threshold": 60}, r"nms_threshold must be in \[0, 1\], got 60", id="an overlap in per cent"),
        pytest.param({"nms_threshold": float("nan")}, r"nms_threshold must be in \[0, 1\], got nan", id="no number"),
        pytest.param({"competition": -0.5}, "a number, at least 0, got -0.5", id="help instead of competition"),
        pytest.param({"competition": "much"}, "a number, at least 0, got 'much'", id="a word for a number"),
        pytest.param({"length_gain": -1}, "length_gain must be a number from 0 to 3, got -1", id="long phrases lose"),
        pytest.param({"length_gain": 64}, "length_gain must be a number from 0 to 3, got 64", id="a gain without end"),
        pytest.param({"contrast": -1}, "contrast must be a number from 0 to 10, got -1", id="less than no contrast"),
        pytest.param({"contrast": 50}, "contrast must be a number from 0 to 10, got 50", id="only certainties"),
        pytest.param({"aggregation": None}, "at least 1, got None", id="nothing for a power"),
        pytest.param({"aggregation": float("inf")}, "at least 1, got inf", id="a power without an end"),
        pytest.param(
            {"nms_threshold": "half"}, r"nms_threshold must be in \[0, 1\], got 'half'", id="a word for a share"
        ),
        pytest.param(
            {"candidates_per_level": 0},
            "candidates_per_level must be a whole number, at least 1, got 0",
            id="no candidates",
        ),
        pytest.param(
            {"max_detections": -1}, "max_detections must be a whole number, at least 1, got -1", id="fewer than none"
        ),
    ],
)
def test_an_impossible_rule_is_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PostProcessor(**rules)


def test_a_power_mean_is_between_the_mean_and_the_best() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0]])
    tokens = torch.tensor([[True, True, True]])
    mean, best = aggregate_scores(logits, tokens, "mean"), aggregate_scores(logits, tokens, "max")
    torch.testing.assert_close(aggregate_scores(logits, tokens, 1.0), mean)
    torch.testing.assert_close(aggregate_scores(logits, tokens, 100.0), best, rtol=0.02, atol=0)
    assert mean < aggregate_scores(logits, tokens, 4.0) < best


def test_expressions_keep_every_box_and_count_every_token_alike() -> None:
    rules = PostProcessor(candidate_threshold=0.2, aggregation=4.0, competition=1.0, max_detections=7, length_gain=0.2)
    alike = PostProcessor(candidate_threshold=0.0, aggregation="mean", competition=1.0, max_detections=7)
    assert rules.for_expressions() == alike
