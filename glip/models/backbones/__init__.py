"""Image encoders. Each says its `channels` and gives three maps, at strides 8, 16 and 32."""

from glip.models.backbones.build import Backbone, build_backbone

__all__ = ["Backbone", "build_backbone"]
