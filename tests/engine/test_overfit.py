"""Eight photos are learnt by heart from a random head: the whole way from boxes to boxes is right."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

BOXES = {  # drawn by hand: xyxy pixels of the photos in docs/photos
    "astronaut.jpg": [("face", (175, 65, 275, 200)), ("shuttle", (355, 0, 470, 300)), ("suit", (25, 190, 480, 512))],
    "chelsea.jpg": [("cat", (0, 5, 440, 298)), ("nose", (230, 155, 275, 185))],
    "coffee.jpg": [("cup", (157, 14, 409, 304)), ("saucer", (78, 45, 480, 388)), ("spoon", (327, 68, 425, 334))],
}


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
def test_eight_photos_are_learnt_from_a_random_head(
    eight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--steps", "300", "--side", "160", "--output", str(tmp_path / "run"))
    monkeypatch.setattr("sys.argv", ["overfit.py", str(eight), *small])
    runpy.run_path(str(Path(__file__).parents[2] / "tools" / "overfit.py"), run_name="__main__")
    assert float(capsys.readouterr().out.rpartition(":")[2]) >= 0.95
