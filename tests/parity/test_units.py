"""Parts of the official code on recorded inputs: coder, IoU, losses, NMS, anchors, and three kinds of module."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from glip.detection.anchors import make_anchors
from glip.detection.box_coder import LEGACY_PIXEL, decode_boxes, encode_boxes
from glip.detection.losses import alignment_focal_loss, centerness_targets
from glip.detection.nms import suppress
from glip.layers.deform_conv import TAPS, gather_deform_conv2d, torchvision_deform_conv2d
from glip.layers.dynamic_relu import DynamicReLU
from glip.models.dyhead import DyConv, flat_prefix
from glip.models.fusion import BidirectionalFusion
from glip.models.glip import flatten_levels
from glip.structures.boxes import clip_boxes, elementwise_giou, pairwise_iou, scale_boxes
from glip.weights.official import our_name
from tests.parity.official import DATA, LEVELS


@pytest.fixture(scope="module")
def units() -> dict[str, Tensor]:
    arrays = np.load(DATA / "public_units.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_boxes_are_encoded_and_decoded_alike(units: dict[str, Tensor]) -> None:
    torch.testing.assert_close(
        encode_boxes(units["coder.gt"], units["coder.anchors"]), units["coder.encode"], atol=2e-4, rtol=1e-5
    )
    found = decode_boxes(units["coder.pred"], units["coder.anchors"])
    torch.testing.assert_close(found, units["coder.decode"], atol=1e-2, rtol=1e-5)


def test_giou_losses_are_alike(units: dict[str, Tensor]) -> None:
    predicted, target = (decode_boxes(units[f"giou.{name}"], units["coder.anchors"]) for name in ("pred", "target"))
    losses = 1 - elementwise_giou(predicted, target)
    torch.testing.assert_close(losses.sum(), units["giou.sum"].float(), rtol=1e-5, atol=1e-5)
    weighted = (losses * units["giou.weight"]).sum()
    torch.testing.assert_close(weighted, units["giou.weighted_sum"].float(), rtol=1e-5, atol=1e-5)


def test_centerness_targets_are_alike(units: dict[str, Tensor]) -> None:
    boxes = decode_boxes(encode_boxes(units["centerness.gt"], units["coder.anchors"]), units["coder.anchors"])
    found = centerness_targets(boxes, units["coder.anchors"])
    defined = ~units["centerness.target"].isnan()  # official: NaN where the centre is outside
    torch.testing.assert_close(found[defined], units["centerness.target"][defined], atol=1e-4, rtol=1e-4)


def test_the_focal_loss_is_alike(units: dict[str, Tensor]) -> None:
    found = alignment_focal_loss(units["focal.logits"], units["focal.targets"].bool(), units["focal.text_mask"].bool())
    torch.testing.assert_close(found, units["focal.sum_alpha0.25_gamma2"].float(), rtol=1e-5, atol=1e-4)


def test_overlaps_count_the_legacy_pixel(units: dict[str, Tensor]) -> None:
    found = pairwise_iou(units["coder.anchors"], units["coder.gt"], pixel=LEGACY_PIXEL)
    torch.testing.assert_close(found, units["iou.anchors_x_gt"], atol=1e-6, rtol=1e-5)


def test_suppression_keeps_the_same_boxes(units: dict[str, Tensor]) -> None:
    kept = suppress(units["nms.boxes"], units["nms.scores"], units["nms.labels"], threshold=0.6)
    assert torch.equal(kept.sort().values, units["nms.kept_thr0.6"].long())


def test_clipping_and_scaling_are_alike(units: dict[str, Tensor]) -> None:
    clipped = clip_boxes(units["clip_resize.in"], (480, 640), pixel=LEGACY_PIXEL)
    torch.testing.assert_close(clipped, units["clip_resize.clipped_640x480"])
    scaled = scale_boxes(clipped, (480, 640), (333, 1000))
    torch.testing.assert_close(scaled, units["clip_resize.resized_1000x333"], atol=1e-3, rtol=1e-5)


def test_anchors_of_a_padded_104x160_image(units: dict[str, Tensor]) -> None:
    shapes = [(13, 20), (7, 10), (4, 5), (2, 3), (1, 2)]
    expected = torch.cat([units[f"anchors.level{level}"] for level in LEVELS])
    assert torch.equal(make_anchors(shapes, (8, 16, 32, 64, 128)), expected)


@pytest.mark.parametrize("convolve", [gather_deform_conv2d, torchvision_deform_conv2d], ids=["gathered", "torchvision"])
@pytest.mark.parametrize(
    ("case", "stride"),
    [
        pytest.param("same", 1, id="offsets of the output's size"),
        pytest.param("stride2", 2, id="stride two"),
        pytest.param("coarse_input_fine_offset", 1, id="offsets of a finer map, read in memory order"),
    ],
)
def test_deformable_convolution_with(
    case: str, stride: int, convolve: Callable[..., Tensor], units: dict[str, Tensor]
) -> None:
    part = {name.rsplit(".", 1)[1]: tensor for name, tensor in units.items() if name.startswith(f"mdcn.{case}.")}
    size = part["y"].shape[2:]
    offsets = flat_prefix(part["offset_mask27"][:, : 2 * TAPS], size)
    mask = flat_prefix(part["offset_mask27"][:, 2 * TAPS :].sigmoid(), size)
    found = convolve(part["x"], offsets, mask, part["weight"], part["bias"], stride)
    torch.testing.assert_close(found, part["y"], atol=1e-5, rtol=1e-5)


def test_dynamic_relu(units: dict[str, Tensor]) -> None:
    layer = DynamicReLU(16)
    layer.load_state_dict(
        {
            f"{ours}.{leaf}": units[f"dyrelu.fc.{index}.{leaf}"]
            for index, ours in ((0, "squeeze"), (2, "excite"))
            for leaf in ("weight", "bias")
        }
    )
    torch.testing.assert_close(layer(units["dyrelu.x"]), units["dyrelu.y"], atol=1e-5, rtol=1e-5)


def parameters(units: dict[str, Tensor], prefix: str, part: str) -> dict[str, Tensor]:
    """Recorded official parameters under our names, without the block's prefix."""
    state = {}
    for name, tensor in units.items():
        if name.startswith(f"{prefix}.param."):
            rest = name.removeprefix(f"{prefix}.param.")
            official = f"rpn.head.dyhead_tower.0.{'b_attn.' if prefix == 'biattn' else ''}{rest}"
            renamed = our_name(official, fused=True)
            assert renamed is not None, name
            is_pooled = name.endswith("AttnConv.1.weight")  # a 1x1 convolution there, a linear layer here
            state[renamed.removeprefix(f"blocks.0.{part}.")] = tensor.flatten(1) if is_pooled else tensor
    return state


def test_a_whole_dyconv_block(units: dict[str, Tensor]) -> None:
    block = DyConv(16, num_groups=4)
    block.load_state_dict(parameters(units, "dyconv", "dyconv"))
    found = block([units[f"dyconv.x.{level}"] for level in LEVELS])
    for level in LEVELS:
        torch.testing.assert_close(found[level], units[f"dyconv.y.{level}"], atol=2e-5, rtol=1e-5)


def test_a_whole_fusion_block(units: dict[str, Tensor]) -> None:
    block = BidirectionalFusion(16, 24, fusion_dim=32, num_heads=4, dropout=0.0, initial_scale=1.0)
    block.load_state_dict(parameters(units, "biattn", "fusion"))
    image = flatten_levels([units[f"dyconv.x.{level}"] for level in LEVELS])
    found_image, found_words = block(image, units["biattn.l"], units["biattn.mask"].bool())
    expected = flatten_levels([units[f"biattn.v_out.{level}"] for level in LEVELS])
    torch.testing.assert_close(found_image, expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found_words, units["biattn.l_out"], atol=2e-5, rtol=1e-5)
