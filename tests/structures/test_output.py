"""The anchors of all levels stand behind each other, the finest level first."""

import pytest
import torch

from glip.structures.output import GlipOutput


def make(level_shapes: tuple[tuple[int, int], ...]) -> GlipOutput:
    """An output of two images and three tokens; each logit is its anchor's place."""
    anchors = sum(height * width for height, width in level_shapes)
    places = torch.arange(anchors, dtype=torch.float32)
    return GlipOutput(
        alignment_logits=places[None, :, None].expand(2, anchors, 3),
        box_deltas=places[None, :, None].expand(2, anchors, 4),
        centerness_logits=places.expand(2, anchors),
        level_shapes=level_shapes,
        strides=tuple(8 * 2**level for level in range(len(level_shapes))),
        image_sizes=torch.tensor([[32, 48], [30, 40]]),
        input_ids=torch.tensor([[101, 4937, 102]] * 2),
        attention_mask=torch.ones(2, 3, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("level_shapes", "levels"),
    [
        pytest.param(((4, 6), (2, 3), (1, 2)), [slice(0, 24), slice(24, 30), slice(30, 32)], id="three levels"),
        pytest.param(((3, 5),), [slice(0, 15)], id="one level"),
        pytest.param((), [], id="no level"),
    ],
)
def test_levels_cut_all_anchors(level_shapes: tuple[tuple[int, int], ...], levels: list[slice]) -> None:
    assert make(level_shapes).levels == levels


def test_a_level_cuts_its_own_logits() -> None:
    output = make(((4, 6), (2, 3)))
    torch.testing.assert_close(output.centerness_logits[0, output.levels[1]], torch.arange(24.0, 30.0))


def test_fields_are_read_by_name_place_and_key() -> None:
    output = make(((1, 2),))
    assert output[0] is output.alignment_logits
    assert output["box_deltas"] is output.box_deltas
    assert list(output)[:3] == ["alignment_logits", "box_deltas", "centerness_logits"]
    assert len(output.to_tuple()) == 8
