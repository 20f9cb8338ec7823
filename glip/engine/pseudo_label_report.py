"""What a run of pseudo-labelling kept and dropped, in numbers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from glip.annotations import Record
from glip.engine.pseudo_labels import KEPT

NO_PICTURE, NO_PHRASE, NO_KEPT_PHRASE = "picture cannot be read", "no noun phrase in the caption", "no phrase was kept"
BINS = 10  # of the scores' histograms, each a tenth wide
MOST_COMMON, MOST_PROBLEMS = 20, 20  # how many are listed


def describe_run(records: Sequence[Record], captions: Mapping[int, str]) -> Record:
    """Counts of pairs, phrases and boxes by fate, the scores of both fates, and examples of each.

    Args:
        records: one a pair, of `pseudo_labels.to_record`, with `number` and `problem`.
        captions: by number.

    Returns:
        `pairs`, `phrases` and `boxes`, each with `all`, `kept` and `dropped` by reason; `best_scores` of kept and of
        dropped phrases in tenths of `[0, 1]`; the `most_kept` and `most_dropped` phrases with their counts; and the
        first `problems` with pictures.
    """
    judged = [record for record in records if record["problem"] is None]
    pairs = Counter(record["problem"] for record in records if record["problem"] is not None)
    kept_pairs = sum(any(phrase["boxes"] for phrase in record["phrases"]) for record in judged)
    if len(judged) > kept_pairs:
        pairs[NO_KEPT_PHRASE] = len(judged) - kept_pairs
    phrases = [(captions[record["number"]], phrase) for record in judged for phrase in record["phrases"]]
    texts = {True: Counter[str](), False: Counter[str]()}
    for caption, phrase in phrases:
        start, end = phrase["span"]
        texts[phrase["reason"] == KEPT][caption[start:end].lower()] += 1
    boxes: Counter[str] = Counter()
    for record in judged:
        boxes.update(record["boxes"])
    problems = [f"pair {record['number']}: {record['message']}" for record in records if "message" in record]
    return {
        "pairs": {"all": len(records), "kept": kept_pairs, "dropped": dict(sorted(pairs.items()))},
        "phrases": _fates(Counter(phrase["reason"] for _, phrase in phrases)),
        "boxes": _fates(boxes),
        "best_scores": {
            "kept": _histogram(phrase["scores"][0] for _, phrase in phrases if phrase["reason"] == KEPT),
            "dropped": _histogram(p["best"][1] for _, p in phrases if p["reason"] != KEPT and p["best"] is not None),
        },
        "most_kept": texts[True].most_common(MOST_COMMON),
        "most_dropped": texts[False].most_common(MOST_COMMON),
        "problems": problems[:MOST_PROBLEMS],
    }


def _fates(counts: Counter[str]) -> Record:
    dropped = {fate: count for fate, count in sorted(counts.items()) if fate != KEPT}
    return {"all": counts.total(), "kept": counts[KEPT], "dropped": dropped}


def _histogram(scores: Iterable[float]) -> list[int]:
    bins = [0] * BINS
    for score in scores:
        bins[min(int(score * BINS), BINS - 1)] += 1
    return bins
