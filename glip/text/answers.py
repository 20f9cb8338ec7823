"""Answers to questions as VQA compares them (Antol et al. 2015; the rules are those of visualqa.org's evaluation page).

Several people answered each question; an answer is as right as people agree with it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from glip.errors import DataError

ENOUGH = 3  # people who gave an answer that is wholly right
MIN_ANNOTATORS = ENOUGH + 1  # so that each of them has as many others to agree with
ARTICLES = ("a", "an", "the")
NUMBERS: Mapping[str, str] = MappingProxyType(
    {"none": "0"}
    | {word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
)
_CONTRACTIONS = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's i'm
    i've isn't it'd it'll ma'am mightn't might've mustn't must've needn't o'clock oughtn't shan't she's should've
    shouldn't somebody'd someone's something's that'd that's there'd there're there's they'd they'll they're they've
    wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's who've
    why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
""".split()  # without those that are words of their own when the apostrophe is left out, as "we'll" is
CONTRACTIONS: Mapping[str, str] = MappingProxyType({word.replace("'", ""): word for word in _CONTRACTIONS})
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d)")
_LOOSE_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")  # any but a decimal point
_PUNCTUATION = re.compile(r"[^\w\s.':]|_")


def normalise_answer(answer: str) -> str:
    """The form in which answers are compared.

    Lower case; number words to digits, articles dropped, apostrophes put back into contractions; commas inside numbers
    and points that are not decimal are dropped; other punctuation, but apostrophes and colons, becomes a space.
    """
    text = _LOOSE_POINT.sub("", _COMMA_IN_NUMBER.sub("", answer.lower()))
    words = (NUMBERS.get(word, word) for word in _PUNCTUATION.sub(" ", text).split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def agreement(answer: str, given: Sequence[str]) -> float:
    """How right an answer is: each person is left out once, and min(matches / 3, 1) of the others averaged.

    Of ten people, 0, 1, 2, 3, 4 or more who gave the answer make 0, 0.3, 0.6, 0.9, 1.

    Args:
        answer: what is judged; compared after `normalise_answer`.
        given: what people said, at least four of them; repeat an answer that is certain.

    Raises:
        DataError: there are fewer.
    """
    return _agreement(_counted(given)[normalise_answer(answer)], len(given))


def answer_vocabulary(questions: Iterable[Sequence[str]], *, min_count: int = 9) -> tuple[str, ...]:
    """The answers that a classifier chooses from: what most people said, where that is said of enough questions.

    Args:
        questions: of each training question, what people said.
        min_count: of how many questions an answer must be the commonest (of equal ones the first that was given).

    Returns:
        Normalised answers, the commonest first, then by letters.

    Raises:
        DataError: a question has fewer than four answers, or no answer is common enough.
    """
    commonest = Counter(_counted(given).most_common(1)[0][0] for given in questions)
    kept = sorted((answer for answer in commonest if commonest[answer] >= min_count), key=lambda a: (-commonest[a], a))
    if not kept:
        raise DataError(
            f"no answer is the commonest of {min_count} questions (there are {commonest.total()}); lower min_count"
        )
    return tuple(kept)


def soft_targets(given: Sequence[str], vocabulary: Sequence[str]) -> Tensor:
    """How right each answer of a vocabulary is.

    Args:
        given: what people said, at least four of them.
        vocabulary: normalised answers, length A.

    Returns:
        `(A,)` float in `[0, 1]`; see `agreement`.

    Raises:
        DataError: fewer than four people answered.
    """
    counts = _counted(given)
    return torch.tensor([_agreement(counts[answer], len(given)) for answer in vocabulary])


def _counted(given: Sequence[str]) -> Counter[str]:
    if isinstance(given, str) or len(given) < MIN_ANNOTATORS:
        raise DataError(
            f"a question needs answers of at least {MIN_ANNOTATORS} people, got {given!r:.60}; repeat an answer "
            "that is certain"
        )
    return Counter(map(normalise_answer, given))


def _agreement(matches: int, people: int) -> float:
    """Mean over leaving out one of those who match, or one of the others."""
    without_match, without_other = min(max(matches - 1, 0) / ENOUGH, 1.0), min(matches / ENOUGH, 1.0)
    return (matches * without_match + (people - matches) * without_other) / people
