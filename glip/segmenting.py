"""Boxes to instance masks: by the network's own head (GLIPv2, section 3.1), or by any segmenter that takes boxes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from glip.detection.masks import paste_masks
from glip.errors import ShapeError
from glip.models.glip import GlipModel
from glip.searching import Finish, Scene, head_of
from glip.structures.boxes import scale_boxes
from glip.structures.detections import Detections
from glip.structures.masks import check_masks
from glip.structures.prompt import Prompt

if TYPE_CHECKING:
    from transformers import SamModel, SamProcessor

Segmenter = Callable[[Image.Image, Tensor], Tensor | npt.NDArray[np.bool_]]
"""An upright RGB picture and `(N, 4)` xyxy pixels of it, N at least 1, to masks `(N, H, W)` bool over the picture."""

Choose = Callable[[Detections], Detections]
"""Which of the detections are kept."""


def mask_drawer(model: GlipModel, choose: Choose) -> Finish:
    """Draws masks with the network's own head, while its features are at hand.

    Args:
        model: the network.
        choose: what is kept of a picture's detections; only that is drawn.

    Raises:
        ConfigError: the network has no mask head.
    """
    head = head_of(model, "masks")

    def draw(scene: Scene, found: list[Detections]) -> list[Detections]:
        kept = [choose(one) for one in found]
        return [replace(one, masks=masks) for one, masks in zip(kept, _draw(head, scene, kept), strict=True)]

    return draw


def _draw(head: nn.Module, scene: Scene, found: Sequence[Detections]) -> list[Tensor]:
    """Of each picture `(N, H, W)` bool; the mean of what the head says of any thing and of the named thing decides."""
    features = scene.output.features
    assert features is not None
    device = features.words.device
    sizes = scene.output.image_sizes.tolist()
    boxes = [
        scale_boxes(one.boxes, original, (size[0], size[1])).to(device)
        for one, original, size in zip(found, scene.originals, sizes, strict=True)
    ]
    maps = [
        token_map[_rows(prompt, one.labels)].to(device)
        for prompt, token_map, one in zip(scene.prompts, scene.token_maps, found, strict=True)
    ]
    plain, named = head(features.levels, boxes, features.words, maps, stride=features.strides[0])
    probabilities = ((plain.float() + named.float()) / 2).sigmoid().split([len(one) for one in found])
    return [
        paste_masks(places, one.boxes.to(device), original).cpu()
        for places, one, original in zip(probabilities, found, scene.originals, strict=True)
    ]


def _rows(prompt: Prompt, labels: Tensor) -> Tensor:
    """The prompt's row of each label: `(N,)` int64."""
    row_of = {label: row for row, label in enumerate(prompt.labels)}
    return torch.tensor([row_of[label] for label in labels.tolist()], dtype=torch.int64)


def with_masks(found: Detections, picture: Image.Image, segmenter: Segmenter) -> Detections:
    """The same detections with the masks of a segmenter.

    Args:
        found: in the picture.
        picture: upright RGB.
        segmenter: is not asked where there is no box.

    Raises:
        ShapeError: it gave something else than one mask for each box, over the whole picture.
    """
    size = (picture.height, picture.width)
    if not len(found):
        return replace(found, masks=torch.zeros(0, *size, dtype=torch.bool))
    masks = torch.as_tensor(segmenter(picture, found.boxes)).cpu()
    check_masks(masks, name="the segmenter's masks")
    if masks.shape != (len(found), *size):
        raise ShapeError(f"the segmenter must give masks {(len(found), *size)}, got {tuple(masks.shape)}")
    return replace(found, masks=masks)


class SamSegmenter:
    """Segment Anything (Kirillov et al. 2023) from transformers, for `Predictor.segment(..., segmenter=...)`.

    Args:
        model: with weights of your own, such as `SamModel.from_pretrained("a folder")`.
        processor: its processor.
        boxes_at_a_time: that the mask decoder takes together.
    """

    def __init__(self, model: "SamModel", processor: "SamProcessor", *, boxes_at_a_time: int = 32) -> None:
        self.model = model.eval()
        self.processor = processor
        self.boxes_at_a_time = boxes_at_a_time

    @torch.inference_mode()
    def __call__(self, picture: Image.Image, boxes: Tensor) -> Tensor:
        """Cut things out.

        Args:
            picture: RGB.
            boxes: `(N, 4)` xyxy pixels of it.

        Returns:
            `(N, H, W)` bool.
        """
        size = (picture.height, picture.width)
        device, dtype = self.model.device, self.model.dtype
        if not len(boxes):
            return torch.zeros(0, *size, dtype=torch.bool)
        inputs = self.processor(images=picture, input_boxes=[boxes.tolist()], return_tensors="pt")
        corners = inputs["input_boxes"].to(device, dtype)  # (1, N, 4), in pixels of the network
        embedding = self.model.get_image_embeddings(inputs["pixel_values"].to(device, dtype))
        masks = [
            self.model(image_embeddings=embedding, input_boxes=some, multimask_output=False).pred_masks.float().cpu()
            for some in corners.split(self.boxes_at_a_time, dim=1)
        ]  # each (1, n, 1, h, w)
        whole = self.processor.image_processor.post_process_masks(
            torch.cat(masks, dim=1), [size], inputs["reshaped_input_sizes"].tolist()
        )
        cut: Tensor = whole[0][:, 0]  # of the one picture, each box's one mask
        return cut
