"""Sentences round a class name, for zero-shot classification (CLIP, section 3.1.4).

Sets of one, seven and eighty. Their sentences are this library's own, after the ideas of the paper: kinds of pictures,
of quality, of view, of art. A set is data: any list of sentences with one `{}` each will do.
"""

from collections.abc import Sequence

from glip.errors import PromptError
from glip.text.prompts import clean_class_name

PLACE = "{}"
ONE = ("a photo of a {}.",)
SEVEN = (
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of a large {}.",
    "a photo of a small {}.",
    "a drawing of a {}.",
    "a close view of a {}.",
    "there is a {} in the picture.",
)
_PICTURES = ("photo", "picture", "snapshot", "close-up", "wide view", "black and white photo", "faded photo", "scan")
_QUALITIES = ("good", "bad", "blurred", "sharp", "dark", "bright", "cropped", "noisy", "low quality", "high quality")
_THINGS = ("large", "small", "clean", "dirty", "old", "new", "strange", "nice", "plain", "colourful", "single", "whole")
_ARTS = (
    *("drawing", "painting", "sketch", "cartoon", "sculpture", "toy", "model", "mosaic", "tattoo", "stamp", "poster"),
    *("stuffed toy", "paper model", "pencil sketch", "computer rendering", "comic", "print", "carving", "logo"),
)
_SCENES = (
    *("there is a {} in the picture.", "there are several of it: {}.", "this is a {}.", "here is a {}.", "it is a {}."),
    *("a {} in front of a plain background.", "a {} indoors.", "a {} outdoors.", "a {} in the distance."),
    *("a {} seen from above.", "a {} seen from the side.", "a {} partly hidden.", "many {}.", "a group of {}."),
    *("the {} in a video game.", "a {} on a table.", "a {} by day.", "a {} by night.", "a {} on a white background."),
    *("someone shows a {}.", "what you see is a {}.", "my {}.", "the {} that I like.", "a {} and nothing else."),
    *("a museum's {}.", "part of a {}.", "the {} of a friend.", "a picture book's {}.", "a catalogue's {}.", "one {}."),
    "{}",
)
EIGHTY = (
    *(f"a {picture} of a {PLACE}." for picture in _PICTURES),
    *(f"a {quality} photo of a {PLACE}." for quality in _QUALITIES),
    *(f"a photo of a {thing} {PLACE}." for thing in _THINGS),
    *(f"a {art} of a {PLACE}." for art in _ARTS),
    *_SCENES,
)
TEMPLATE_SETS: dict[int, tuple[str, ...]] = {0: (PLACE,), 1: ONE, 7: SEVEN, 80: EIGHTY}
"""By their sizes; 0 is the bare name."""


def templates_of(templates: int | Sequence[str]) -> tuple[str, ...]:
    """A set by its size, or own sentences, checked.

    Raises:
        PromptError: there is no set of this size, no sentence, or one without its `{}`.
    """
    if isinstance(templates, int):
        if templates not in TEMPLATE_SETS:
            raise PromptError(
                f"template sets have {sorted(TEMPLATE_SETS)} sentences, got {templates}; or give your own"
            )
        return TEMPLATE_SETS[templates]
    if isinstance(templates, str) or not templates:
        raise PromptError(f"templates must be a list of sentences such as 'a photo of a {{}}.', got {templates!r}")
    for template in templates:
        if not isinstance(template, str) or template.count(PLACE) != 1:
            raise PromptError(f"a template must hold one {{}} where the name goes, got {template!r}")
    return tuple(templates)


def fill_templates(templates: Sequence[str], name: str) -> list[str]:
    """The sentences with a class name in them, cleaned as in GLIP's prompts (`glip.text.prompts.clean_class_name`).

    Raises:
        PromptError: the name has no words.
    """
    cleaned = clean_class_name(name).strip() if isinstance(name, str) else ""
    if not cleaned:
        raise PromptError(f"a class name must have words, got {name!r}")
    return [template.replace(PLACE, cleaned) for template in templates]
