"""Grounded phrase detection: an image and words go in, boxes that belong to the words come out.

    from glip import Predictor
    predictor = Predictor.from_pretrained()
    detections = predictor.detect("photo.jpg", ["cat", "remote control"])

Importing this package is cheap: its names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glip.answering import Answer
    from glip.clip_configuration import ClipConfig
    from glip.clip_processing import ClipImageProcessor, ClipProcessor
    from glip.configuration import GlipConfig
    from glip.detection.postprocess import PostProcessor
    from glip.errors import GlipError
    from glip.models.clip import ClipModel
    from glip.models.glip import GlipModel
    from glip.predictor import Predictor
    from glip.processing import GlipImageProcessor, GlipProcessor
    from glip.segmenting import SamSegmenter
    from glip.structures.detections import Detections
    from glip.structures.output import GlipOutput
    from glip.structures.prompt import Phrase, Prompt
    from glip.structures.targets import Targets
    from glip.vocabulary import Vocabulary
    from glip.zero_shot import Classification, ZeroShotClassifier

__version__ = "0.1.0"

_HOMES = {
    "Answer": "glip.answering",
    "Classification": "glip.zero_shot",
    "ClipConfig": "glip.clip_configuration",
    "ClipImageProcessor": "glip.clip_processing",
    "ClipModel": "glip.models.clip",
    "ClipProcessor": "glip.clip_processing",
    "Detections": "glip.structures.detections",
    "GlipConfig": "glip.configuration",
    "GlipError": "glip.errors",
    "GlipImageProcessor": "glip.processing",
    "GlipModel": "glip.models.glip",
    "GlipOutput": "glip.structures.output",
    "GlipProcessor": "glip.processing",
    "Phrase": "glip.structures.prompt",
    "PostProcessor": "glip.detection.postprocess",
    "Predictor": "glip.predictor",
    "Prompt": "glip.structures.prompt",
    "SamSegmenter": "glip.segmenting",
    "Targets": "glip.structures.targets",
    "Vocabulary": "glip.vocabulary",
    "ZeroShotClassifier": "glip.zero_shot",
}

__all__ = [
    "Answer",
    "Classification",
    "ClipConfig",
    "ClipImageProcessor",
    "ClipModel",
    "ClipProcessor",
    "Detections",
    "GlipConfig",
    "GlipError",
    "GlipImageProcessor",
    "GlipModel",
    "GlipOutput",
    "GlipProcessor",
    "Phrase",
    "PostProcessor",
    "Predictor",
    "Prompt",
    "SamSegmenter",
    "Targets",
    "Vocabulary",
    "ZeroShotClassifier",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'glip' has no attribute {name!r}; its names are {__all__}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
