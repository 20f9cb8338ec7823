"""Numbers of GLIPv2's heads on drawn dev scenes, as JSON, each beside a baseline that sees no picture.

    python tools/evaluate_heads.py --model runs/heads/model --data runs/drawn [--only vqa ...] [--output NAME.json]

DATA is what tools/make_drawn_data.py wrote. Of every model: AP50 of boxes, and recall@1 of phrases. Of the heads that
it has: masks, segm AP50 of what is detected, and mean IoU inside true boxes; captioning, CIDEr-D (from 0 to 10) and
BLEU-4; vqa, accuracy by kind of question, and how often the answer's box is right; mlm, accuracy and loss of hidden
words. "blind" is the same model in front of a grey picture.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from glip.annotations import Record, read_object
from glip.data.captions import CaptionRule
from glip.data.dataset import Collate, GroundingDataset
from glip.data.readers import read_grounding_json
from glip.data.tasks import TaskRule
from glip.data.transforms import AugmentationRule
from glip.detection.masks import paste_masks
from glip.errors import GlipError
from glip.evaluation.answering import answer_box_recall, vqa_accuracy
from glip.evaluation.captioning import caption_metrics
from glip.evaluation.coco import coco_metrics
from glip.evaluation.masks import phrase_mask_metrics
from glip.evaluation.recall import is_hit, recall_at
from glip.files import check_target, write_json
from glip.images import read_image
from glip.predictor import Predictor
from glip.structures.boxes import scale_boxes, xywh_to_xyxy
from glip.structures.detections import Detections
from glip.structures.masks import encode_masks, masks_of
from glip.structures.prompt import Prompt
from glip.structures.tasks import IGNORED, TaskInputs, TaskOutput
from glip.text.prompts import prompt_from_caption, prompt_from_labels
from glip.text.tokens import TokenizedPrompts, tokenize_prompts

BATCH = 16  # pictures
MOST_BOXES = 20  # of a picture whose masks are drawn
GREY = (124, 116, 104)  # the mean of photos, which normalisation turns into nothing
PEOPLE = 10  # who answer a question, all alike
MEASURES = ("boxes", "phrases", "masks", "captioning", "vqa", "mlm")
WHOLE_BOX = 10.0  # logit of a mask that fills its box

Masks = Callable[[TaskOutput], Tensor]
Item = TypeVar("Item")
KINDS: dict[str, Masks] = {
    "by words": lambda said: _known(said.word_mask_logits),
    "of anything": lambda said: _known(said.mask_logits),
    "whole box": lambda said: torch.full_like(_known(said.mask_logits), WHOLE_BOX),
}


@dataclass(frozen=True)
class Scenes:
    """Drawn scenes on disk, as tools/make_drawn_data.py writes them.

    Attributes:
        folder: with scenes.json, grounding.json, questions.json and pictures.
        limit: most scenes that are looked at.
    """

    folder: Path
    limit: int

    def part(self, name: str) -> Record:
        """Content of a file, cut to the first scenes."""
        content = read_object(self.folder / f"{name}.json")
        files = set(list(dict.fromkeys(record["file_name"] for record in content["images"]))[: self.limit])
        images = [record for record in content["images"] if record["file_name"] in files]
        ids = {record["id"] for record in images}
        return {**content, "images": images, "annotations": [a for a in content["annotations"] if a["image_id"] in ids]}

    def pictures(self, records: Sequence[Record], *, blind: bool) -> list[Image.Image]:
        """The pictures of some records, or grey ones of their sizes."""
        if blind:
            return [Image.new("RGB", (record["width"], record["height"]), GREY) for record in records]
        return [read_image(self.folder / record["file_name"]) for record in records]


class Measurement:
    """One model on one set of scenes.

    Args:
        predictor: the model.
        dev: what is measured on.
        train: where the commonest answers and descriptions are from.
    """

    def __init__(self, predictor: Predictor, dev: Scenes, train: Scenes) -> None:
        self.predictor, self.dev, self.train = predictor, dev, train
        self.model, self.processor = predictor.model, predictor.processor

    def report(self, only: Collection[str] = ()) -> Record:
        """All numbers of the model and of the heads that it has, or only some of them.

        Args:
            only: "boxes", "phrases", and heads; nothing for all.
        """
        measures: dict[str, Callable[[bool], Any]] = {"boxes": self.boxes, "phrases": self.phrases}
        of_heads = {"masks": self.masks, "captioning": self.captions, "vqa": self.answers, "mlm": self.words}
        measures |= {name: measure for name, measure in of_heads.items() if name in self.model.config.heads}
        report: Record = {"scenes": len(self.dev.part("scenes")["images"])}
        for name, measure in measures.items():
            if not only or name in only:
                report[name] = {"model": measure(False), "blind": measure(True)}
        for name, commonest in (("captioning", self.commonest_caption), ("vqa", self.commonest_answers)):
            if name in report:
                report[name]["commonest"] = commonest()
        return report

    def boxes(self, blind: bool) -> float:
        """AP50 of the shapes' boxes."""
        content, results = self.dev.part("scenes"), list[Record]()
        for records, found in self._detected(content, blind=blind):
            ids = [category["id"] for category in content["categories"]]
            for record, one in zip(records, found, strict=True):
                results += one.to_coco(record["id"], category_ids=ids)
        return coco_metrics(content, results)["AP50"]

    def phrases(self, blind: bool) -> Record:
        """Recall@1 of the phrases of sentences, and of answers behind their questions."""
        content = self.dev.part("grounding")
        spans: dict[int, dict[tuple[int, int], list[list[float]]]] = defaultdict(dict)
        for annotation in content["annotations"]:
            span = (annotation["tokens_positive"][0][0], annotation["tokens_positive"][0][1])
            spans[annotation["image_id"]].setdefault(span, []).append(annotation["bbox"])
        hits: dict[str, list[bool]] = {"sentences": [], "answers": []}
        for records in _batches(content["images"]):
            prompts = [prompt_from_caption(record["caption"], list(spans[record["id"]])) for record in records]
            found = self.predictor.find(self.dev.pictures(records, blind=blind), prompts)
            for record, one in zip(records, found, strict=True):
                for label, boxes in enumerate(spans[record["id"]].values()):
                    truth = xywh_to_xyxy(torch.tensor(boxes))
                    kind = "answers" if "question_kind" in record else "sentences"
                    hits[kind].append(is_hit(one.boxes[one.labels == label], truth, k=1))
        return {f"recall@1 of {kind}": recall_at(some) for kind, some in hits.items()}

    def masks(self, blind: bool) -> Record:
        """Segm AP50 of detections, and mean IoU of masks inside true boxes, in each way of drawing them."""
        content = self.dev.part("scenes")
        ids = [category["id"] for category in content["categories"]]
        results: dict[str, list[Record]] = {kind: [] for kind in KINDS}
        for records, found in self._detected(content, blind=blind):
            shown = [one[:MOST_BOXES] for one in found]
            drawn = self._masks(records, [(one.boxes, one.labels) for one in shown], content, blind=blind)
            for kind, masks in drawn.items():
                for record, one, mask in zip(records, shown, masks, strict=True):
                    boxes = one.to_coco(record["id"], category_ids=ids)
                    results[kind] += [
                        {**box, "segmentation": rle} for box, rle in zip(boxes, encode_masks(mask), strict=True)
                    ]
        segm = {kind: coco_metrics(content, some, shape="segm")["AP50"] for kind, some in results.items()}
        return {"segm AP50": segm, "IoU in true boxes": self._mask_iou(content, blind=blind)}

    def captions(self, blind: bool) -> Record:
        """CIDEr-D and BLEU-4 of descriptions."""
        content = self.dev.part("scenes")
        said: list[str] = []
        for records in _batches(content["images"]):
            pictures = self.processor.image_processor(self.dev.pictures(records, blind=blind))
            tokens = self.model.describe(pictures["pixel_values"], pictures["image_sizes"])
            said += [self.processor.tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
        return self._caption_metrics(said, content)

    def commonest_caption(self) -> Record:
        """The same of the training description that is met most often, for each picture."""
        told = Counter(record["description"] for record in self.train.part("scenes")["images"])
        content = self.dev.part("scenes")
        return self._caption_metrics([told.most_common(1)[0][0]] * len(content["images"]), content)

    def answers(self, blind: bool) -> Record:
        """Accuracy by kind of question, and how often the best box of the given answer is the true one."""
        questions = self.dev.part("questions")["images"]
        known = self.model.config.heads["vqa"]["answers"]
        said: list[str] = []
        found: list[list[float] | None] = []
        for records in _batches(questions):
            pictures = self.dev.pictures(records, blind=blind)
            words = self._tokens([Prompt(record["question"], ()) for record in records])
            logits = _known(self._ask(pictures, words, TaskInputs()).answer_logits)
            answers = [known[place] for place in logits.argmax(dim=1).tolist()]
            said += answers
            asked = [record["question"] for record in records]
            found += self._answer_boxes(pictures, asked, answers)
        people = [[record["answers"][0]] * PEOPLE for record in questions]
        numbers: Record = {"questions": len(questions)}
        numbers |= vqa_accuracy(said, people, [record["kind"] for record in questions])
        return numbers | {"answers' boxes": answer_box_recall(found, [record["box"] for record in questions])}

    def commonest_answers(self) -> Record:
        """Accuracy of the commonest training answer of each kind of question."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for record in self.train.part("questions")["images"]:
            counts[record["kind"]][record["answers"][0]] += 1
        questions = self.dev.part("questions")["images"]
        said = [counts[record["kind"]].most_common(1)[0][0] for record in questions]
        people = [[record["answers"][0]] * PEOPLE for record in questions]
        return vqa_accuracy(said, people, [record["kind"] for record in questions])

    @torch.inference_mode()
    def words(self, blind: bool) -> Record:
        """Accuracy and cross-entropy, in nats, of words hidden in sentences; the same words each time."""
        image_processor = self.processor.image_processor
        side = image_processor.short_side
        still = AugmentationRule((side,), max_side=image_processor.max_side, flip=0.0, crop=0.0, colour=0.0)
        examples = read_grounding_json(self.dev.folder / "grounding.json")
        dataset = GroundingDataset(
            examples, image_processor=image_processor, captions=CaptionRule(), augmentation=still
        )
        collate = Collate(self.processor.tokenizer, image_processor, TaskRule(words=True))
        right, loss, count = 0, 0.0, 0
        for places in _batches(range(len(self.dev.part("grounding")["images"]))):
            batch = collate([dataset[place, side, place] for place in places])
            labels = _known(_known(batch.truth).word_labels)
            pixels = torch.zeros_like(batch.pixel_values) if blind else batch.pixel_values
            said = self.model(
                pixels,
                batch.input_ids,
                batch.attention_mask,
                batch.image_sizes,
                tasks=TaskInputs(hidden_words=labels != IGNORED),
            ).tasks
            truth = labels[labels != IGNORED]
            right += int((said.word_logits.argmax(dim=1) == truth).sum())
            loss += F.cross_entropy(said.word_logits, truth, reduction="sum").item()
            count += len(truth)
        return {"words": count, "accuracy": right / max(count, 1), "loss": loss / max(count, 1)}

    def _detected(self, content: Record, *, blind: bool) -> Iterator[tuple[list[Record], list[Detections]]]:
        """Records, and what is found of all names in their pictures, best first."""
        names = [category["name"] for category in content["categories"]]
        for records in _batches(content["images"]):
            yield records, self.predictor.detect(self.dev.pictures(records, blind=blind), names, threshold=0.0)

    def _masks(
        self, records: list[Record], asked: list[tuple[Tensor, Tensor]], content: Record, *, blind: bool
    ) -> dict[str, list[Tensor]]:
        """Masks `(N, H, W)` of the given boxes (xyxy pixels) and labels of each picture, in each way."""
        words = self._tokens([prompt_from_labels([c["name"] for c in content["categories"]])] * len(records))
        sizes = [(record["height"], record["width"]) for record in records]
        pictures = self.dev.pictures(records, blind=blind)
        resized = self.processor.image_processor(pictures)["image_sizes"].tolist()
        boxes = tuple(
            scale_boxes(one, size, (height, width))
            for (one, _), size, (height, width) in zip(asked, sizes, resized, strict=True)
        )
        maps = tuple(token_map[labels] for token_map, (_, labels) in zip(words.token_maps, asked, strict=True))
        said = self._ask(pictures, words, TaskInputs(boxes=boxes, token_maps=maps))
        drawn = {}
        for kind, pick in KINDS.items():
            parts = pick(said).sigmoid().split([len(one) for one, _ in asked])
            drawn[kind] = [
                paste_masks(part, one, size) for part, (one, _), size in zip(parts, asked, sizes, strict=True)
            ]
        return drawn

    def _mask_iou(self, content: Record, *, blind: bool) -> Record:
        labels = {category["id"]: label for label, category in enumerate(content["categories"])}
        things: dict[int, list[Record]] = defaultdict(list)
        for annotation in content["annotations"]:
            things[annotation["image_id"]].append(annotation)
        pairs: dict[str, list[tuple[Tensor, Tensor]]] = {kind: [] for kind in KINDS}
        for records in _batches(content["images"]):
            own = [things[record["id"]] for record in records]
            asked = [
                (
                    xywh_to_xyxy(torch.tensor([thing["bbox"] for thing in some], dtype=torch.float32).view(-1, 4)),
                    torch.tensor([labels[thing["category_id"]] for thing in some], dtype=torch.int64),
                )
                for some in own
            ]
            for kind, masks in self._masks(records, asked, content, blind=blind).items():
                for record, some, found in zip(records, own, masks, strict=True):
                    truth = masks_of([thing["segmentation"] for thing in some], (record["height"], record["width"]))
                    pairs[kind] += list(zip(found, truth, strict=True))
        return {kind: phrase_mask_metrics(some)["mean_iou"] for kind, some in pairs.items()}

    def _answer_boxes(
        self, pictures: list[Image.Image], questions: list[str], answers: list[str]
    ) -> list[list[float] | None]:
        """The best box of each answer, as its question's last word."""
        captions = [f"{question} {answer}" for question, answer in zip(questions, answers, strict=True)]
        spans = [(len(caption) - len(answer), len(caption)) for caption, answer in zip(captions, answers, strict=True)]
        prompts = [prompt_from_caption(caption, [span]) for caption, span in zip(captions, spans, strict=True)]
        return [one.boxes[0].tolist() if len(one) else None for one in self.predictor.find(pictures, prompts)]

    def _caption_metrics(self, said: list[str], content: Record) -> Record:
        metrics = caption_metrics(said, [record["references"] for record in content["images"]])
        return {"CIDEr-D": metrics["CIDEr-D"], "BLEU-4": metrics["BLEU-4"], "examples": said[:3]}

    def _tokens(self, prompts: Sequence[Prompt]) -> TokenizedPrompts:
        return tokenize_prompts(prompts, self.processor.tokenizer, max_tokens=self.processor.max_tokens)

    @torch.inference_mode()
    def _ask(self, pictures: Sequence[Image.Image], words: TokenizedPrompts, tasks: TaskInputs) -> TaskOutput:
        pixels = self.processor.image_processor(list(pictures))
        output = self.model(
            pixels["pixel_values"], words.input_ids, words.attention_mask, pixels["image_sizes"], tasks=tasks
        )
        said: TaskOutput = output.tasks
        return said


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    for start in range(0, len(items), BATCH):
        yield list(items[start : start + BATCH])


def _known(value: Item | None) -> Item:
    """What the model was asked for, it has said."""
    assert value is not None
    return value


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of tools/make_drawn_data.py")
    parser.add_argument("--only", nargs="*", choices=MEASURES, default=(), help="what is measured; all if left out")
    parser.add_argument("--limit", type=int, default=400, help="most dev scenes")
    parser.add_argument("--output", type=Path, default=None, help="a new file for the numbers, too")
    arguments = parser.parse_args()
    try:
        if arguments.output is not None:
            check_target(arguments.output, overwrite=False)
        predictor = Predictor.from_pretrained(arguments.model, batch_size=BATCH)
        dev, train = (
            Scenes(arguments.data / part, limit) for part, limit in (("dev", arguments.limit), ("train", 10**9))
        )
        report = Measurement(predictor, dev, train).report(arguments.only)
        if arguments.output is not None:
            write_json(arguments.output, report)
    except GlipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
