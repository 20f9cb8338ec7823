"""What a contrastive run learns from, and what it starts from."""

from pathlib import Path

from glip.clip_configuration import CLIP_VARIANTS, ClipConfig
from glip.clip_processing import ClipImageProcessor, ClipProcessor
from glip.data.class_folders import read_class_folders
from glip.data.pair_dataset import TemplatedPair
from glip.data.pairs import Pair, read_pairs
from glip.data.shards import read_shards
from glip.engine.clip_config import ClipTrainConfig, PairSourceConfig
from glip.errors import DataError
from glip.models.clip import ClipModel, copy_towers
from glip.models.glip import GlipModel
from glip.predictor import published_processor
from glip.text.prompts import clean_class_name
from glip.text.templates import templates_of
from glip.weights.folder import check_processor_folder, find_model_folder, model_kind

CLASSES = "classes"


def read_pair_sources(sources: tuple[PairSourceConfig, ...]) -> tuple[list[TemplatedPair], list[float]]:
    """All pairs of a mixture, and how often each is drawn. Pictures without a caption are left out.

    Raises:
        FileError: a source is not there.
        DataError: a source is not of its form, or has no pair.
    """
    pairs: list[TemplatedPair] = []
    weights: list[float] = []
    for source in sources:
        found = _read(source)
        if not found:
            raise DataError(f"{source.pairs}: no pairs in it; leave this source out")
        pairs += found
        weights += [source.weight / len(found)] * len(found)
    return pairs, weights


def _read(source: PairSourceConfig) -> list[TemplatedPair]:
    if source.kind == CLASSES:
        templates = templates_of(source.templates)
        pictures = read_class_folders(source.pairs)
        names = [clean_class_name(name).strip() for name in pictures.names]
        return [
            TemplatedPair(Pair(str(image), image, names[label]), templates)
            for image, label in zip(pictures.images, pictures.labels, strict=True)
        ]
    found = read_shards(source.pairs) if source.kind == "shards" else read_pairs(source.pairs, images=source.images)
    return [TemplatedPair(pair) for pair in found if pair.caption.strip()]


def clip_starting_point(config: ClipTrainConfig) -> tuple[ClipModel, ClipProcessor]:
    """The network and the processor that a run starts from.

    Raises:
        CheckpointError: the start is no folder of a `ClipModel`, or the towers do not fit.
        FileError: there is no such model.
    """
    if config.new_model is None:
        assert config.start is not None
        return load_clip(config.start)
    network = CLIP_VARIANTS[config.new_model](**config.network)
    model = ClipModel(network)
    if config.towers is not None:
        copy_towers(load_towers(config.towers), model)
    processor = ClipProcessor(
        ClipImageProcessor(config.image_size), published_processor().tokenizer, max_tokens=network.max_tokens
    )
    return model, processor


def load_clip(path: str | Path) -> tuple[ClipModel, ClipProcessor]:
    """A trained network and its processor.

    Raises:
        CheckpointError: it is no folder of both.
        FileError: there is no such model.
    """
    folder = find_model_folder(path)
    check_processor_folder(folder)
    processor: ClipProcessor = ClipProcessor.from_pretrained(folder)
    return ClipModel.from_pretrained(folder), processor


def load_towers(path: str | Path) -> ClipModel | GlipModel:
    """A model whose encoders another can start with (`glip.models.clip.copy_towers`).

    Args:
        path: "glip-nano", or a folder of a `GlipModel` or `ClipModel`.

    Raises:
        CheckpointError: it is neither.
        FileError: there is no such model.
    """
    folder = find_model_folder(path)
    if model_kind(folder) == ClipConfig.model_type:
        return ClipModel.from_pretrained(folder)
    return GlipModel.from_pretrained(folder)
