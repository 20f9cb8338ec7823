"""The shipped network on small pictures, so that a run takes a fraction of a second."""

from glip.detection.postprocess import PostProcessor
from glip.predictor import Predictor
from glip.processing import GlipImageProcessor, GlipProcessor


def quick_predictor(
    shipped: Predictor, *, max_tokens: int = 256, rules: PostProcessor | None = None, batch_size: int = 1
) -> Predictor:
    """The shipped model with 96 pixels on the shorter side."""
    processor = GlipProcessor(
        GlipImageProcessor(short_side=96, max_side=192), shipped.processor.tokenizer, max_tokens=max_tokens
    )
    return Predictor(shipped.model, processor, rules=rules, batch_size=batch_size)
