"""Eight photos are learnt by heart from a random head: the whole way from boxes to boxes is right."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from glip.engine.config import TrainConfig
from glip.engine.trainer import Trainer
from glip.evaluation.benchmark import Vocabulary
from glip.evaluation.coco import CocoJsonBenchmark
from glip.models.alignment_head import AlignmentHead
from glip.predictor import Predictor

BOXES = {  # drawn by hand: xyxy pixels of the photos in docs/photos
    "astronaut.jpg": [("face", (175, 65, 275, 200)), ("shuttle", (355, 0, 470, 300)), ("suit", (25, 190, 480, 512))],
    "chelsea.jpg": [("cat", (0, 5, 440, 298)), ("nose", (230, 155, 275, 185))],
    "coffee.jpg": [("cup", (157, 14, 409, 304)), ("saucer", (78, 45, 480, 388)), ("spoon", (327, 68, 425, 334))],
}
SIDE = 192


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Three photos, their mirror images, and two turned upside down."""
    folder = tmp_path_factory.mktemp("eight")
    names = sorted({name for things in BOXES.values() for name, _ in things})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    turns = [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM]
    pictures = [(photo, turn) for turn in turns for photo in BOXES][:8]
    for number, (photo, turn) in enumerate(pictures, start=1):
        with Image.open(photos / photo) as opened:
            picture = opened.convert("RGB")
        width, height = picture.size
        turned = picture if turn is None else picture.transpose(turn)
        turned.save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for name, (x1, y1, x2, y2) in BOXES[photo]:
            left = width - x2 if turn == Image.Transpose.FLIP_LEFT_RIGHT else x1
            top = height - y2 if turn == Image.Transpose.FLIP_TOP_BOTTOM else y1
            box = [left, top, x2 - x1, y2 - y1]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": names.index(name) + 1, "bbox": box}
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "eight.json").write_text(json.dumps(content))
    return folder / "eight.json"


@pytest.mark.slow
def test_eight_photos_are_learnt_from_a_random_head(eight: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shipped = Predictor.from_pretrained()
    channels, words = shipped.model.config.channels, shipped.model.text_encoder.dim
    shipped.model.head = AlignmentHead(channels, words, num_levels=len(shipped.model.config.strides))
    shipped.model.save_pretrained(tmp_path / "start")
    shipped.processor.image_processor.short_side = SIDE
    shipped.processor.save_pretrained(tmp_path / "start")
    config = TrainConfig.model_validate(
        {
            "start": tmp_path / "start",
            "output": tmp_path / "run",
            "sources": [{"annotations": eight, "kind": "detection"}],
            "steps": 150,
            "batch_size": 8,
            "workers": 0,
            "ema_decay": 0.9,
            "optimizer": {"learning_rate": 1e-3, "backbone_factor": 0.1, "clip_norm": 5.0},
            "schedule": {"warmup_steps": 10},
            "augmentation": {"short_sides": [SIDE], "max_side": 320, "flip": 0.0, "crop": 0.0, "colour": 0.0},
            "captions": {"max_names": 9, "full_share": 1.0, "article_share": 0.0},
            "save_every": 1000,
        }
    )
    Trainer(config).train()
    model = Predictor.from_pretrained(tmp_path / "run" / "model")
    benchmark = CocoJsonBenchmark(annotations=eight)
    answers = []
    for question in benchmark.questions():
        assert isinstance(question.words, Vocabulary)
        found = model.detect(question.image, question.words.labels, threshold=0.0)
        answers.append(benchmark.answer(question, found))
    assert benchmark.score(answers)["AP50"] >= 0.95
