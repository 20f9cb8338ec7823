"""Write glip-nano's training sets that do not lie ready: composed scenes, and pseudo boxes of unlabelled photos.

    python tools/make_nano_data.py --photos ../shared/data --nanodet NANODET.json --cutouts ASSETS \
        --output runs/nano_data

ASSETS is what tools/unpack_cutouts.py wrote.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glip.annotations import to_bbox
from glip.configuration import glip_nano
from glip.data.compose import Background, CutOut, compose_scene, read_backgrounds, read_cutouts
from glip.data.describe import Box, Placed, Words, describe_things, tell
from glip.data.readers import read_detection_json
from glip.data.usual_places import UsualPlaces
from glip.detection.nms import suppress
from glip.errors import FileError, GlipError
from glip.images import read_image
from glip.models.backbones import build_backbone
from glip.processing import GlipImageProcessor
from glip.structures.boxes import clip_boxes, pairwise_iou, scale_boxes
from glip.structures.masks import encode_masks
from glip.text.noun_phrases import find_noun_phrases
from glip.weights.nanodet import decode_nanodet, read_nanodet
from tools.nano_phrases import coco_classes

STRIDES = (8, 16, 32)
SURE, POSSIBLE = 0.4, 0.08  # teacher scores: above the first a box is kept, below the second a class is absent
SAME_BOX = 0.5  # IoU
LARGE = 0.35  # of the picture's height: people whose clothes can be told
TOLD = (
    "coco_train128",
    "coco_mini_captions",
    "coco_tiny80",
    "voc2012_sample",
    "openimages_5cls",
    "pot_curtain_toaster",
)
UNLABELLED = ("imagenet_samples_nobox", "caltech101_nobox")
Record = dict[str, Any]


class Teacher:
    """NanoDet-g as a plain detector of COCO's 80 classes."""

    def __init__(self, path: Path) -> None:
        state, self.outputs = read_nanodet(path)
        self.backbone = build_backbone(glip_nano().backbone).eval()
        self.backbone.load_state_dict(state)
        self.processor = GlipImageProcessor(short_side=352, max_side=640)

    @torch.inference_mode()
    def __call__(self, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes `(N, 4)` xyxy pixels of the picture and scores `(N, 80)`, after class-agnostic NMS, best first."""
        image = read_image(path)
        features = self.processor(image)
        size = tuple(features["image_sizes"][0].tolist())
        boxes, scores = [], []
        maps = self.backbone(features["pixel_values"])
        for level, (weight, bias), stride in zip(maps, self.outputs, STRIDES, strict=True):
            found = decode_nanodet(F.conv2d(level, weight[:, :, None, None], bias), stride)
            boxes.append(found[0][0])
            scores.append(found[1][0])
        all_boxes, all_scores = torch.cat(boxes), torch.cat(scores)
        best = all_scores.amax(dim=1)
        kept = (best > POSSIBLE / 2).nonzero()[:, 0]
        kept = kept[suppress(all_boxes[kept], best[kept], kept * 0, threshold=0.6, class_agnostic=True)]
        inside = clip_boxes(all_boxes[kept], size)
        return scale_boxes(inside, size, (image.height, image.width)), all_scores[kept]


def pseudo_label(folder: Path, teacher: Teacher, coco_names: list[str], draw: random.Random) -> Record:
    """COCO detection JSON of photos that only have a label: it names the best box; sure finds are added."""
    source = json.loads((folder / "train.json").read_text())
    labels = sorted({record["image_label"].replace("_", " ").lower() for record in source["images"]})
    names = list(dict.fromkeys([*coco_names, *labels]))
    ids = {name: index + 1 for index, name in enumerate(names)}
    images: list[Record] = []
    annotations: list[Record] = []
    for record in source["images"]:
        boxes, scores = teacher(folder / record["file_name"])
        label = record["image_label"].replace("_", " ").lower()
        chosen = [(label, _main_box(boxes, scores, record))]
        best, kind = scores.max(dim=1) if len(scores) else (torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        subject = torch.tensor([chosen[0][1]])
        for box, score, index in zip(boxes, best, kind.tolist(), strict=True):
            elsewhere = pairwise_iou(box[None], subject).item() < SAME_BOX  # the label knows better what the subject is
            if score > SURE and elsewhere:
                chosen.append((coco_names[index], box.tolist()))
        possible = {coco_names[i] for i in range(80) if len(scores) and scores[:, i].max() > POSSIBLE} | {label}
        absent = [ids[name] for name in draw.sample(names, 60) if name not in possible]
        images.append(
            {**record, "file_name": str((folder / record["file_name"]).resolve()), "neg_category_ids": absent}
        )
        for name, (x1, y1, x2, y2) in chosen:
            bbox = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": record["id"], "category_id": ids[name], "bbox": bbox}
            )
    return {"images": images, "annotations": annotations, "categories": _categories(names)}


def whole_phrases(folder: Path, places: UsualPlaces) -> Record:
    """The weakly linked captions with each linked word widened to its noun phrase: "woman" to "a young woman".

    Phrases that no box is linked to get the place where such a thing usually is, if there is one.
    """
    content: Record = json.loads((folder / "grounding_train.json").read_text())
    captions = {record["id"]: record["caption"] for record in content["images"]}
    people = largest_people(folder / "train.json")
    for record in content["images"]:
        record["file_name"] = str((folder / record["file_name"]).resolve())
    for annotation in content["annotations"]:
        phrases = find_noun_phrases(captions[annotation["image_id"]])
        annotation["tokens_positive"] = [
            next((phrase for phrase in phrases if phrase[0] <= start and end <= phrase[1]), (start, end))
            for start, end in annotation["tokens_positive"]
        ]
    linked = {(a["image_id"], tuple(span)) for a in content["annotations"] for span in a["tokens_positive"]}
    for record in content["images"]:
        usual = places.in_picture((record["width"], record["height"]))
        person = people.get(Path(record["file_name"]).name)
        usual |= places.on_person(person) if person else {}
        for start, end in find_noun_phrases(record["caption"]):
            box = usual.get(record["caption"][start:end].split()[-1].lower())
            if box and (record["id"], (start, end)) not in linked:
                content["annotations"].append(
                    {"image_id": record["id"], "bbox": to_bbox(box), "tokens_positive": [(start, end)]}
                )
    return content


def largest_people(annotations: Path) -> dict[str, Box]:
    """The largest person's box in each picture that has a large one, by file name."""
    people = {}
    for example in read_detection_json(annotations):
        boxes = [thing.box for thing in example.objects if thing.name == "person"]
        if boxes:
            box = max(boxes, key=lambda b: b[3] - b[1])
            if box[3] - box[1] > LARGE * example.size[0]:
                people[Path(str(example.image)).name] = box
    return people


def dress_people(sources: list[Path], places: UsualPlaces, count: int, draw: random.Random) -> Record:
    """Detection JSON of people with what they may wear where it would be: of the other names nothing is known."""
    names = sorted({*places.standing, *places.seated})
    ids = {name: index + 1 for index, name in enumerate(names)}
    images: list[Record] = []
    annotations: list[Record] = []
    for source in sources:
        people = largest_people(source)
        for example in read_detection_json(source):
            person = people.get(Path(str(example.image)).name)
            if person is None:
                continue
            boxes = places.on_person(person)
            for _ in range(count):
                chosen = draw.sample(sorted(boxes), 2)
                height, width = example.size
                images.append(
                    {
                        "id": len(images),
                        "file_name": str(Path(str(example.image)).resolve()),
                        "width": width,
                        "height": height,
                        "neg_category_ids": [],
                    }
                )
                annotations += [
                    {"image_id": len(images) - 1, "category_id": ids[name], "bbox": to_bbox(boxes[name])}
                    for name in chosen
                ]
    return {"images": images, "annotations": annotations, "categories": _categories(names)}


def tell_photos(sources: list[Path], words: Words, count: int, draw: random.Random) -> Record:
    """Grounding JSON of sentences about photos with boxes, in other words than their class names."""
    images: list[Record] = []
    phrases: list[Record] = []
    for source in sources:
        for example in read_detection_json(source):
            things = tuple(Placed(thing.name, thing.box) for thing in example.objects)
            height, width = example.size
            for _ in range(count if things else 1):
                sentence = tell(things, (width, height), draw, words=words, absent=example.absent)
                record = {"file_name": str(Path(str(example.image)).resolve()), "width": width, "height": height}
                images.append({"id": len(images), **record, "caption": sentence.caption})
                phrases += [
                    {"image_id": len(images) - 1, "bbox": to_bbox(thing.box), "tokens_positive": list(thing.spans)}
                    for thing in sentence.objects
                ]
    return {"images": images, "annotations": phrases, "categories": []}


def _main_box(boxes: torch.Tensor, scores: torch.Tensor, record: Record) -> list[float]:
    """The box of the picture's subject: likely a thing, large and central; most of the picture where none is."""
    width, height = record["width"], record["height"]
    whole = [0.04 * width, 0.04 * height, 0.96 * width, 0.96 * height]
    if not len(boxes):
        return whole
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides.prod(dim=1) / (width * height)
    offset = ((boxes[:, :2] + boxes[:, 2:]) / 2 / torch.tensor([width, height]) - 0.5).norm(dim=1)
    worth = scores.amax(dim=1) * area.clamp(max=0.6).sqrt() * (1 - offset)
    best = int(worth.argmax())
    if scores[best].max() < 0.15 or area[best] < 0.03:
        return whole
    result: list[float] = boxes[best].tolist()
    return result


def compose(
    cutouts: list[CutOut], backgrounds: list[Background], output: Path, count: int, seed: int
) -> tuple[Record, Record]:
    """Render scenes; detection JSON of their names, with masks, and grounding JSON of their sentences."""
    files = [background.file for background in backgrounds]
    names = sorted({cutout.name for cutout in cutouts})
    ids = {name: index + 1 for index, name in enumerate(names)}
    images, boxes = list[Record](), list[Record]()
    captions, phrases = list[Record](), list[Record]()
    for index in range(count):
        scene = compose_scene(cutouts, files, seed + index)
        draw = random.Random(seed + index)
        file = output / f"{index:06d}.jpg"
        scene.image.save(file, quality=90)
        size = {"file_name": str(file.resolve()), "width": scene.image.width, "height": scene.image.height}
        present = {thing.name for thing in scene.things}
        absent = [ids[name] for name in draw.sample(names, 50) if not _related(name, present)]
        images.append({"id": index, **size, "neg_category_ids": absent})
        boxes += [
            {"image_id": index, "category_id": ids[thing.name], "bbox": to_bbox(thing.box), "segmentation": mask}
            for thing, mask in zip(scene.things, encode_masks(scene.masks), strict=True)
        ]
        for sentence in describe_things(scene.things, scene.image.size, draw):
            captions.append({"id": len(captions), **size, "caption": sentence.caption})
            phrases += [
                {"image_id": len(captions) - 1, "bbox": to_bbox(thing.box), "tokens_positive": list(thing.spans)}
                for thing in sentence.objects
            ]
    detection = {"images": images, "annotations": boxes, "categories": _categories(names)}
    return detection, {"images": captions, "annotations": phrases, "categories": []}


def _related(name: str, present: set[str]) -> bool:
    """Whether two names share a word, so that one cannot be said to be absent."""
    words = set(name.split())
    return any(words & set(other.split()) for other in present)


def _categories(names: list[str]) -> list[Record]:
    return [{"id": index + 1, "name": name} for index, name in enumerate(names)]


def main() -> None:
    """Write everything into the output folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder with the data sets of ../shared/data")
    parser.add_argument("--nanodet", type=Path, required=True, help="nanodet.json, with nanodet.bin beside it")
    parser.add_argument("--cutouts", type=Path, required=True, help="folder with stamps, emoji and backgrounds")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--scenes", type=int, default=3000, help="how many scenes to compose")
    parser.add_argument("--words", type=Path, default=Path("configs/words/coco.yaml"), help="other names of classes")
    parser.add_argument(
        "--places", type=Path, default=Path("configs/words/places.yaml"), help="where things usually are"
    )
    parser.add_argument("--held-out", type=Path, default=Path("configs/words/held_out.yaml"), help="never composed")
    parser.add_argument("--sentences", type=int, default=16, help="how many sentences a photo with boxes gets")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise FileError(f"{arguments.output}: exists already; give a new folder")
    (arguments.output / "scenes").mkdir(parents=True)
    coco_names = coco_classes(arguments.photos)
    teacher = Teacher(arguments.nanodet)
    draw = random.Random(arguments.seed)
    for name in UNLABELLED:
        record = pseudo_label(arguments.photos / name, teacher, coco_names, draw)
        (arguments.output / f"{name}.json").write_text(json.dumps(record))
    places = UsualPlaces.load(arguments.places)
    captions = whole_phrases(arguments.photos / "coco_mini_captions", places)
    (arguments.output / "coco_captions.json").write_text(json.dumps(captions))
    words = Words(**yaml.safe_load(arguments.words.read_text()))
    boxed = [arguments.photos / name / "train.json" for name in TOLD]
    told = tell_photos(boxed, words, arguments.sentences, draw)
    (arguments.output / "told_photos.json").write_text(json.dumps(told))
    dressed = dress_people(boxed, places, 4, draw)
    (arguments.output / "dressed_people.json").write_text(json.dumps(dressed))
    pseudo = [arguments.output / f"{name}.json" for name in UNLABELLED]
    told = tell_photos(pseudo, words, max(arguments.sentences // 4, 1), draw)
    (arguments.output / "told_unlabelled.json").write_text(json.dumps(told))
    held_out = yaml.safe_load(arguments.held_out.read_text())
    detection, grounding = compose(
        [cutout for cutout in read_cutouts(arguments.cutouts) if cutout.name not in held_out["names"]],
        [back for back in read_backgrounds(arguments.cutouts) if back.name not in held_out["backgrounds"]],
        arguments.output / "scenes",
        arguments.scenes,
        1_000_000 * (arguments.seed + 1),
    )
    (arguments.output / "scenes_detection.json").write_text(json.dumps(detection))
    (arguments.output / "scenes_grounding.json").write_text(json.dumps(grounding))


if __name__ == "__main__":
    try:
        main()
    except GlipError as error:
        sys.exit(f"error: {error}")
