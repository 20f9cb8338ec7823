"""A few pictures of each class (GLIP, section 5: 1, 3, 5 and 10 shots)."""

import random
from collections import Counter
from collections.abc import Sequence

from glip.data.examples import Example


def select_shots(examples: Sequence[Example], shots: int, *, seed: int | None = None) -> list[Example]:
    """Pictures until each class has been seen `shots` times, or there are no more.

    A picture is taken if one of its classes still wants one; then all its classes want one less. This is the published
    rule, so a class that often comes with others may get more pictures than `shots`.

    Args:
        examples: pictures; those without objects are not taken.
        shots: wanted pictures of each class.
        seed: of the order in which pictures are looked at; None for the order given, as published.
    """
    order = list(examples)
    if seed is not None:
        random.Random(seed).shuffle(order)
    taken: Counter[str] = Counter()
    chosen = []
    for example in order:
        names = {thing.name for thing in example.objects}
        if any(taken[name] < shots for name in names):
            taken.update(names)
            chosen.append(example)
    return chosen
