"""What every CLIP does with a batch: two encoders whose vectors meet (Radford et al. 2021, figure 3)."""

from typing import Any

from torch import Tensor, nn

from glip.errors import ShapeError
from glip.models.strict import StrictModel
from glip.structures.output import ClipOutput


class DualEncoder(StrictModel):
    """Encodes images and their texts. Children set `log_scale` and `logit_bias`, and encode."""

    base_model_prefix = ""
    main_input_name = "pixel_values"

    log_scale: nn.Parameter
    logit_bias: nn.Parameter | None

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> ClipOutput:
        """Encode images and their texts.

        Args:
            pixel_values: `(B, 3, H, W)` normalised RGB, all of it picture; of sizes that `encode_images` takes.
            input_ids: `(B, L)` int64 tokens of one text for each image.
            attention_mask: `(B, L)`, nonzero on real tokens; None if no text is padded.

        Raises:
            ShapeError: the batch sizes differ, or pictures have a size that the network was not made for.
            PromptError: a text is longer than the network was made for.
        """
        if len(pixel_values) != len(input_ids):
            raise ShapeError(f"each image needs one text, got {len(pixel_values)} images and {len(input_ids)} texts")
        return ClipOutput(
            image_features=self.encode_images(pixel_values),
            text_features=self.encode_texts(input_ids, attention_mask),
            logit_scale=self.log_scale.exp(),
            logit_bias=None if self.logit_bias is None else self.logit_bias * 1,
        )

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """`(B, 3, H, W)` normalised RGB to `(B, D)` of L2 norm 1."""
        raise NotImplementedError

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`(B, L)` int64 to `(B, D)` of L2 norm 1."""
        raise NotImplementedError
