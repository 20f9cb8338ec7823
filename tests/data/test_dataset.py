"""Examples become batches; batch number n is the same in every run, so that an interrupted run can go on."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from glip.data.captions import CaptionRule
from glip.data.dataset import Batch, BatchSampler, Collate, Draw, GroundingDataset, Sample
from glip.data.examples import Example, GroundedObject
from glip.data.transforms import AugmentationRule
from glip.processing import GlipImageProcessor
from glip.structures.prompt import Phrase, Prompt

UNCHANGED = AugmentationRule(max_side=999, flip=0.0, crop=0.0, colour=0.0)
ALL_NAMES = CaptionRule(max_names=3, full_share=1.0, article_share=0.0)


def example_of(folder: Path, size: tuple[int, int], *boxes: tuple[float, float, float, float]) -> Example:
    """A grey picture of (height, width) with a cat in each box; a dog is known not to be there."""
    path = folder / f"{size[0]}x{size[1]}.png"
    Image.new("RGB", size[::-1], "grey").save(path)
    return Example(path, size, tuple(GroundedObject(box, "cat") for box in boxes), absent=("dog",))


def dataset_of(*examples: Example, augmentation: AugmentationRule = UNCHANGED) -> GroundingDataset:
    return GroundingDataset(
        examples, image_processor=GlipImageProcessor(), captions=ALL_NAMES, augmentation=augmentation
    )


def sampler_of(
    weights: Sequence[float] = (1, 1, 1, 1), is_upright: Sequence[bool] = (True, False, True, False), *, start: int = 0
) -> BatchSampler:
    return BatchSampler(weights, is_upright, batch_size=3, short_sides=(32, 48, 64), seed=7, start=start)


def first(sampler: BatchSampler, count: int) -> list[list[Draw]]:
    return list(itertools.islice(sampler, count))


# --- samples -----------------------------------------------------------------------------------------------------


def test_boxes_are_scaled_to_the_networks_picture(tmp_path: Path) -> None:
    """40 x 80 pixels at a short side of 20: everything is halved."""
    dataset = dataset_of(example_of(tmp_path, (40, 80), (10, 4, 30, 24), (0, 0, 80, 40)))
    sample = dataset[0, 20, 0]
    assert sample.pixel_values.shape == (3, 20, 40)
    torch.testing.assert_close(sample.boxes, torch.tensor([[5.0, 2.0, 15.0, 12.0], [0.0, 0.0, 40.0, 20.0]]))


def test_the_long_side_is_limited(tmp_path: Path) -> None:
    rule = AugmentationRule(max_side=40, flip=0.0, crop=0.0, colour=0.0)
    dataset = dataset_of(example_of(tmp_path, (40, 80), (10, 4, 30, 24)), augmentation=rule)
    assert dataset[0, 40, 0].pixel_values.shape == (3, 20, 40)


def test_each_box_points_at_its_phrase(tmp_path: Path) -> None:
    sample = dataset_of(example_of(tmp_path, (40, 80), (10, 4, 30, 24)))[0, 40, 0]
    assert [sample.prompt.phrases[index].text for index in sample.phrase_of_box.tolist()] == ["cat"]
    assert sorted(sample.prompt.caption.split(". ")) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        pytest.param((10.0, 10.0, 14.0, 14.0), 1, id="two pixels of the network's picture"),
        pytest.param((10.0, 10.0, 13.0, 30.0), 0, id="less than two pixels wide"),
        pytest.param((78.0, 10.0, 99.0, 30.0), 0, id="mostly outside: one pixel is left"),
        pytest.param((-20.0, 10.0, 20.0, 30.0), 1, id="half outside"),
    ],
)
def test_a_box_of(tmp_path: Path, box: tuple[float, float, float, float], kept: int) -> None:
    sample = dataset_of(example_of(tmp_path, (40, 80), box))[0, 20, 0]
    assert len(sample.boxes) == len(sample.phrase_of_box) == kept
    assert bool((sample.boxes >= 0).all())


def test_a_box_that_the_caption_does_not_name_is_left_out(tmp_path: Path) -> None:
    example = example_of(tmp_path, (40, 80))
    objects = (GroundedObject((10, 4, 30, 24), "cat"), GroundedObject((40, 4, 60, 24), "cow"))
    dataset = GroundingDataset(
        [Example(example.image, example.size, objects)],
        image_processor=GlipImageProcessor(),
        captions=CaptionRule(max_names=1, full_share=1.0, article_share=0.0),
        augmentation=UNCHANGED,
    )
    sample = dataset[0, 40, 0]
    assert sample.phrase_of_box.tolist() == [0]
    assert sample.boxes[0, 0].item() == {"cat": 10.0, "cow": 40.0}[sample.prompt.caption]


def test_a_picture_without_boxes_is_a_sample(tmp_path: Path) -> None:
    sample = dataset_of(example_of(tmp_path, (40, 80)))[0, 40, 0]
    assert sample.boxes.shape == (0, 4)
    assert sample.phrase_of_box.shape == (0,)
    assert sample.prompt.caption == "dog"


def test_the_same_draw_gives_the_same_sample_and_the_next_another(tmp_path: Path) -> None:
    rule = AugmentationRule(flip=0.5, crop=1.0, colour=1.0)
    dataset = dataset_of(example_of(tmp_path, (40, 80), (30, 10, 50, 30)), augmentation=rule)
    once, again, other = dataset[0, 32, 5], dataset[0, 32, 5], dataset[0, 32, 6]
    torch.testing.assert_close(once.pixel_values, again.pixel_values, rtol=0, atol=0)
    torch.testing.assert_close(once.boxes, again.boxes, rtol=0, atol=0)
    assert once.prompt == again.prompt
    assert once.boxes.tolist() != other.boxes.tolist()


def test_its_length_is_the_number_of_examples(tmp_path: Path) -> None:
    assert len(dataset_of()) == 0
    assert len(dataset_of(*[example_of(tmp_path, (4, 8))] * 3)) == 3


# --- batches -----------------------------------------------------------------------------------------------------


def sample_of(size: tuple[int, int], caption: str, *spans: tuple[int, int]) -> Sample:
    """A picture of ones with one box for each span."""
    phrases = tuple(Phrase(caption[start:end], ((start, end),), label) for label, (start, end) in enumerate(spans))
    boxes = torch.tensor([[1.0, 2.0, 9.0, 8.0]]).expand(len(spans), 4)
    return Sample(torch.ones(3, *size), boxes, torch.arange(len(spans)), Prompt(caption, phrases), "made.png")


@pytest.fixture
def collate(tokenizer: PreTrainedTokenizerBase) -> Collate:
    return Collate(tokenizer, GlipImageProcessor())


def test_a_batch_by_hand(collate: Collate) -> None:
    batch = collate([sample_of((20, 40), "cat. remote control", (0, 3), (5, 19)), sample_of((33, 10), "a dog", (0, 5))])
    assert batch.pixel_values.shape == (2, 3, 64, 64)
    assert batch.image_sizes.tolist() == [[20, 40], [33, 10]]
    assert batch.input_ids.shape == (2, 6)  # CLS cat . remote control SEP
    assert batch.attention_mask.sum(dim=1).tolist() == [6, 4]
    first_map, second_map = (targets.token_map.long().tolist() for targets in batch.targets)
    assert first_map == [[0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]]
    assert second_map == [[0, 1, 1, 0, 0, 0]]
    assert [targets.labels.tolist() for targets in batch.targets] == [[0, 1], [0]]


def test_each_box_gets_the_tokens_of_its_own_phrase(collate: Collate) -> None:
    sample = sample_of((32, 32), "cat. dog", (0, 3), (5, 8), (0, 3))
    batch = collate([Sample(sample.pixel_values, sample.boxes, torch.tensor([1, 0, 1]), sample.prompt, "made.png")])
    (targets,) = batch.targets
    assert targets.token_map.long().tolist() == [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]  # CLS cat . dog SEP
    assert targets.labels.tolist() == [1, 0, 1]


def test_a_picture_without_boxes_may_be_in_a_batch(collate: Collate) -> None:
    batch = collate([sample_of((32, 32), "a dog"), sample_of((32, 32), "a cat", (0, 5))])
    assert [len(targets) for targets in batch.targets] == [0, 1]
    assert batch.targets[0].token_map.shape == (0, 4)


def test_whether_boxes_teach_edges_reaches_the_targets(tmp_path: Path, collate: Collate) -> None:
    told = example_of(tmp_path, (40, 80), (10, 4, 30, 24))
    dataset = dataset_of(told, replace(told, box_loss=False), augmentation=AugmentationRule(crop=1.0, flip=1.0))
    batch = collate([dataset[index, 32, 0] for index in (0, 1)])
    assert [target.box_loss for target in batch.targets] == [True, False]
    assert [target.to("cpu").box_loss for target in batch.targets] == [True, False]


def test_a_batch_may_be_without_any_box(collate: Collate) -> None:
    batch = collate([sample_of((32, 32), "a dog")])
    assert [len(targets) for targets in batch.targets] == [0]


def test_a_training_caption_that_is_too_long_is_cut(collate: Collate) -> None:
    caption = " ".join(["cat"] * 300)
    batch = collate([sample_of((32, 32), caption, (0, 3), (len(caption) - 3, len(caption)))])
    assert batch.input_ids.shape == (1, 256)
    assert batch.targets[0].token_map.sum(dim=1).tolist() == [1, 0]  # the last cat is beyond the cut


# --- which examples ----------------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_with_the_batch_it_stopped_before() -> None:
    uninterrupted = first(sampler_of(), 9)
    assert first(sampler_of(start=5), 4) == uninterrupted[5:]
    assert len({str(batch) for batch in uninterrupted}) == 9


def test_the_sampler_starts_anew_each_time_it_is_asked() -> None:
    sampler = sampler_of()
    assert first(sampler, 3) == first(sampler, 3)


def test_another_seed_gives_other_batches() -> None:
    other = BatchSampler([1] * 4, [True, False] * 2, batch_size=3, short_sides=(32, 48, 64), seed=8)
    assert first(other, 5) != first(sampler_of(), 5)


def test_a_batch_has_one_orientation_and_one_short_side() -> None:
    batches = first(sampler_of(), 40)
    assert all(len(batch) == 3 for batch in batches)
    assert {frozenset(index % 2 for index, _, _ in batch) for batch in batches} == {frozenset({0}), frozenset({1})}
    assert {frozenset(side for _, side, _ in batch) for batch in batches} == {
        frozenset({32}),
        frozenset({48}),
        frozenset({64}),
    }


def test_examples_are_drawn_by_their_weights() -> None:
    """Weights 6, 1, 2, 1 among upright and lying pictures alike: shares of 0.6, 0.1, 0.2, 0.1."""
    draws = Counter(index for batch in first(sampler_of((6, 1, 2, 1)), 2000) for index, _, _ in batch)
    shares = torch.tensor([draws[index] / 6000 for index in range(4)])
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.1, 0.2, 0.1]), rtol=0, atol=0.04)


@pytest.mark.parametrize("is_upright", [[True, True], [False, False]])
def test_pictures_may_all_have_one_orientation(is_upright: list[bool]) -> None:
    batches = first(sampler_of((1, 1), is_upright), 20)
    assert {index for batch in batches for index, _, _ in batch} == {0, 1}


def test_samples_of_a_batch_have_seeds_of_their_own() -> None:
    seeds = [seed for batch in first(sampler_of(), 20) for _, _, seed in batch]
    assert len(set(seeds)) == len(seeds)


def test_all_together_in_a_data_loader(tmp_path: Path, collate: Collate) -> None:
    examples = [
        example_of(tmp_path, (40, 80), (10, 4, 30, 24)),
        example_of(tmp_path, (80, 40)),
        example_of(tmp_path, (50, 90), (0, 0, 30, 30), (40, 10, 70, 30)),
    ]
    sampler = sampler_of((1, 1, 1), [False, True, False])
    loader: DataLoader[Sample] = DataLoader(dataset_of(*examples), batch_sampler=sampler, collate_fn=collate)
    for batch, draws in zip(itertools.islice(loader, 4), first(sampler, 4), strict=True):
        assert isinstance(batch, Batch)
        counts = np.array([1, 0, 2])[[index for index, _, _ in draws]]
        assert [len(targets) for targets in batch.targets] == counts.tolist()
        assert batch.image_sizes.min(dim=1).values.tolist() == [side for _, side, _ in draws]


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_batch_are_together_the_batch(parts: int) -> None:
    """As processes and accumulated gradients share it."""

    def batches(share: tuple[range, int]) -> list[list[tuple[int, int, int]]]:
        sampler = BatchSampler([1.0] * 9, [True] * 9, batch_size=6, short_sides=[64], seed=3, share=share)
        return [batch for batch, _ in zip(sampler, range(8), strict=False)]

    whole = batches((range(1), 1))[:2]
    accumulated = batches((range(0, parts, 1), parts))[: 2 * parts]
    for index in range(2):
        pieces = accumulated[index * parts : (index + 1) * parts]
        assert sorted(chain(*pieces)) == sorted(whole[index])
    shared = [batches((range(rank, parts, parts), parts))[:2] for rank in range(parts)]
    for index in range(2):
        assert sorted(chain(*(share[index] for share in shared))) == sorted(whole[index])
