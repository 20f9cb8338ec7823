"""From a config to heads, and from features to what the heads say."""

from typing import Any, cast

from torch import Tensor, nn

from glip.configuration import GlipConfig
from glip.models.heads.answers import AnswerHead
from glip.models.heads.captioning import CaptionHead
from glip.models.heads.contrast import ContrastHead
from glip.models.heads.masks import MaskHead
from glip.models.heads.words import WordHead
from glip.models.text_encoder import TextEncoder
from glip.structures.output import GlipFeatures
from glip.structures.tasks import TaskInputs, TaskOutput


def build_heads(config: GlipConfig, encoder: TextEncoder) -> nn.ModuleDict:
    """The heads of a config, with new weights."""
    return nn.ModuleDict({name: _build(name, numbers, config, encoder) for name, numbers in config.heads.items()})


def _build(name: str, numbers: dict[str, Any], config: GlipConfig, encoder: TextEncoder) -> nn.Module:
    sides = (config.channels, encoder.dim)
    vocabulary = encoder.word_embedding.shape[0]
    match name:
        case "masks":
            return MaskHead(
                *sides,
                extractor=numbers["extractor"],
                layers=numbers["layers"],
                width=numbers["channels"],
                resolution=numbers["resolution"],
            )
        case "mlm":
            return WordHead(encoder.dim, vocabulary)
        case "captioning":
            return CaptionHead(
                *sides,
                num_heads=encoder.num_heads,
                vocabulary=vocabulary,
                layers=numbers["layers"],
                max_tokens=numbers["max_tokens"],
                grid=numbers["grid"],
            )
        case "vqa":
            return AnswerHead(
                *sides,
                num_heads=encoder.num_heads,
                num_answers=len(numbers["answers"]),
                layers=numbers["layers"],
                width=numbers["width"],
                grid=numbers["grid"],
            )
        case _:
            return ContrastHead(*sides, width=numbers["width"])


def run_heads(
    heads: nn.ModuleDict,
    config: GlipConfig,
    features: GlipFeatures,
    word_mask: Tensor,
    inputs: TaskInputs,
    embedding: Tensor,
) -> TaskOutput:
    """Ask every head that is there and has its question.

    Args:
        heads: by name.
        config: their numbers.
        features: of the batch.
        word_mask: `(B, L)` bool, True on real tokens.
        inputs: the questions.
        embedding: `(V, D)`, the text encoder's word embeddings.
    """
    said: dict[str, Tensor] = {}
    if "masks" in heads and inputs.boxes is not None and inputs.token_maps is not None:
        said["mask_logits"], said["word_mask_logits"] = heads["masks"](
            features.levels, inputs.boxes, features.words, inputs.token_maps, stride=features.strides[0]
        )
    if "mlm" in heads and inputs.hidden_words is not None:
        said["word_logits"] = heads["mlm"](features.words[inputs.hidden_words], embedding)
    if "captioning" in heads and inputs.description_ids is not None:
        level, mask = (part[inputs.described] for part in plain_level(features, config.heads["captioning"]["stride"]))
        said["description_logits"] = heads["captioning"](inputs.description_ids, level, mask, embedding)
    if "vqa" in heads:
        said["answer_logits"] = weigh_answers(heads["vqa"], features, word_mask, config.heads["vqa"]["stride"])
    if "contrast" in heads:
        found = heads["contrast"](features.plain_levels, features.plain_words)
        said["region_embeddings"], said["word_embeddings"], said["contrast_scale"] = found
    return TaskOutput(**cast(dict[str, Any], said))


def weigh_answers(head: nn.Module, features: GlipFeatures, word_mask: Tensor, stride: int) -> Tensor:
    """Logits of each answer to each caption, `(B, K)`, by the fused map of one stride."""
    place = features.strides.index(stride)
    level, mask = features.levels[place], features.level_masks[place]
    logits: Tensor = head(features.words, word_mask, level, mask, features.alignment(place))
    return logits


def plain_level(features: GlipFeatures, stride: int) -> tuple[Tensor, Tensor]:
    """The map of one stride that no word has touched `(B, C, H, W)`, and its mask `(B, H, W)`."""
    place = features.strides.index(stride)
    return features.plain_levels[place], features.level_masks[place]
