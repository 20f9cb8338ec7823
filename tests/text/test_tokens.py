"""Each phrase has the tokens that its characters give; long class lists are cut between names, never inside one."""

from itertools import chain

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from glip.errors import PromptError
from glip.structures.prompt import Phrase, Prompt, Span, phrase_texts
from glip.text.prompts import prompt_from_caption, prompt_from_labels
from glip.text.tokens import encode, map_tokens, pack_labels, tokenize_prompts

ANIMALS = ["cat", "dog", "horse", "sheep", "cow"]  # one token each


def words(tokenizer: PreTrainedTokenizerBase, caption: str, tokens: torch.Tensor) -> str:
    """The tokens that a row of a token map marks, joined by blanks."""
    pieces = tokenizer.convert_ids_to_tokens(encode(tokenizer, caption)["input_ids"])
    return " ".join(piece for piece, marked in zip(pieces, tokens.tolist(), strict=False) if marked)


@pytest.mark.parametrize(
    ("caption", "phrase", "expected"),
    [
        pytest.param("a cat on a mat", "cat", "cat", id="one word"),
        pytest.param("a red ball here", "red ball", "red ball", id="two words"),
        pytest.param("cat and cat", "cat", "cat cat", id="both places of a word that stands twice"),
        pytest.param("a hippogriff", "hippogriff", "hip ##po ##gr ##iff", id="all pieces of a rare word"),
        pytest.param("a T-shirt", "T-shirt", "t - shirt", id="a sign inside the phrase"),
        pytest.param("the café", "café", "cafe", id="an accent, which the vocabulary drops"),
        pytest.param("a naïve man", "naïve man", "naive man", id="an accent before the last letter"),
        pytest.param("a cat 🐶 dog", "🐶", "[UNK]", id="an emoji is the unknown token"),
        pytest.param("a CAT", "cat", "cat", id="capitals"),
    ],
)
def test_a_phrase_has_the_tokens_of_its_characters(
    caption: str, phrase: str, expected: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    found = tokenize_prompts([prompt_from_caption(caption, [phrase])], tokenizer)
    (token_map,) = found.token_maps
    assert words(tokenizer, caption, token_map[0]) == expected


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([(2, 5)], [2], id="exactly the word"),
        pytest.param([(1, 6)], [2], id="a blank at either end"),
        pytest.param([(3, 4)], [2], id="a part of the word means its token"),
        pytest.param([(0, 12)], [1, 2, 3], id="from the first word to the last"),
        pytest.param([(0, 1), (8, 12)], [1, 3], id="two pieces leave out what is between"),
        pytest.param([(6, 9)], [3], id="two blanks at the start are stepped over"),
        pytest.param([(0, 7)], [1, 2], id="two blanks at the end are stepped over"),
        pytest.param([(5, 9)], [], id="three blanks at the start are too many"),
        pytest.param([(0, 8)], [], id="three blanks at the end are too many"),
        pytest.param([(5, 8), (2, 5)], [2], id="a piece of blanks is skipped, the other counts"),
        pytest.param([(1, 2)], [], id="one blank between two words means neither"),
        pytest.param([(11, 99)], [], id="an end far outside the caption"),
        pytest.param([], [], id="no span"),
    ],
)
def test_the_ends_of_a_span_step_inwards_over_blanks(
    spans: list[Span], expected: list[int], tokenizer: PreTrainedTokenizerBase
) -> None:
    encoding = encode(tokenizer, "a cat   dogs")  # CLS, a, cat, dogs, SEP; characters 5, 6 and 7 are blank
    token_map = map_tokens(encoding, [spans], length=5)
    assert token_map.dtype == torch.bool
    assert token_map[0].nonzero()[:, 0].tolist() == expected


def test_a_span_of_the_blank_before_the_first_word_means_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    assert not map_tokens(encode(tokenizer, " cat"), [[(0, 1)]], length=3).any()


def test_a_token_map_without_phrases_has_no_rows(tokenizer: PreTrainedTokenizerBase) -> None:
    assert map_tokens(encode(tokenizer, "a cat"), [], length=7).shape == (0, 7)


def test_two_phrases_may_share_a_token(tokenizer: PreTrainedTokenizerBase) -> None:
    token_map = map_tokens(encode(tokenizer, "a red ball"), [[(0, 10)], [(6, 10)]], length=5)
    expected = [[False, True, True, True, False], [False, False, False, True, False]]
    torch.testing.assert_close(token_map, torch.tensor(expected))


def test_a_batch_is_padded_to_its_longest_caption(tokenizer: PreTrainedTokenizerBase) -> None:
    short, long = prompt_from_labels(["cat"]), prompt_from_labels(["cat", "dog"])
    found = tokenize_prompts([short, long], tokenizer)
    torch.testing.assert_close(found.input_ids, torch.tensor([[101, 4937, 102, 0, 0], [101, 4937, 1012, 3899, 102]]))
    torch.testing.assert_close(
        found.attention_mask, torch.tensor([[True, True, True, False, False], [True, True, True, True, True]])
    )
    torch.testing.assert_close(found.token_maps[0], torch.tensor([[False, True, False, False, False]]))
    torch.testing.assert_close(
        found.token_maps[1],
        torch.tensor([[False, True, False, False, False], [False, False, False, True, False]]),
    )


def test_no_prompts_give_an_empty_batch(tokenizer: PreTrainedTokenizerBase) -> None:
    found = tokenize_prompts([], tokenizer)
    assert found.input_ids.shape == found.attention_mask.shape == (0, 0)
    assert found.token_maps == ()


def test_a_caption_may_fill_the_limit_exactly(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = prompt_from_labels(["cat", "dog"])  # CLS cat . dog SEP
    assert tokenize_prompts([prompt], tokenizer, max_tokens=5).input_ids.shape == (1, 5)


def test_one_token_over_the_limit_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(PromptError, match="has 5 tokens, at most 4 fit; shorten it, or give a class list"):
        tokenize_prompts([prompt_from_labels(["cat", "dog"])], tokenizer, max_tokens=4)


def test_a_long_caption_can_be_cut_for_training(tokenizer: PreTrainedTokenizerBase) -> None:
    found = tokenize_prompts([prompt_from_labels(["cat", "dog"])], tokenizer, max_tokens=4, truncate=True)
    torch.testing.assert_close(found.input_ids, torch.tensor([[101, 4937, 1012, 102]]))
    torch.testing.assert_close(
        found.token_maps[0], torch.tensor([[False, True, False, False], [False, False, False, False]])
    )


@pytest.mark.parametrize(
    ("caption", "span"),
    [
        pytest.param("a cat   dogs", (5, 8), id="only blanks"),
        pytest.param("a \u200b cat", (2, 3), id="a character without width"),
    ],
)
def test_a_phrase_without_a_token_is_refused(caption: str, span: Span, tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = Prompt(caption, (Phrase("ghost", (span,), 0),))
    with pytest.raises(PromptError, match="'ghost' has no letter or sign"):
        tokenize_prompts([prompt], tokenizer)


@pytest.mark.parametrize(
    ("max_tokens", "chunk_size", "captions"),
    [
        pytest.param(256, None, ["cat. dog. horse. sheep. cow"], id="all fit in one"),
        pytest.param(11, None, ["cat. dog. horse. sheep. cow"], id="nine tokens, CLS and SEP fill eleven exactly"),
        pytest.param(10, None, ["cat. dog. horse. sheep", "cow"], id="one token less moves the last name on"),
        pytest.param(6, None, ["cat. dog", "horse. sheep", "cow"], id="room for two names and a separator, not more"),
        pytest.param(3, None, ANIMALS, id="room for one name each"),
        pytest.param(256, 2, ["cat. dog", "horse. sheep", "cow"], id="at most two names each"),
        pytest.param(256, 5, ["cat. dog. horse. sheep. cow"], id="as many names as there are"),
        pytest.param(256, 1, ANIMALS, id="one name each"),
        pytest.param(5, 3, ["cat. dog", "horse. sheep", "cow"], id="the limit is reached before the chunk size"),
    ],
)
def test_a_class_list_is_packed(
    max_tokens: int, chunk_size: int | None, captions: list[str], tokenizer: PreTrainedTokenizerBase
) -> None:
    prompts = pack_labels(ANIMALS, tokenizer, max_tokens=max_tokens, chunk_size=chunk_size)
    assert [prompt.caption for prompt in prompts] == captions
    assert list(chain.from_iterable(prompt.labels for prompt in prompts)) == [0, 1, 2, 3, 4]
    assert phrase_texts(prompts) == tuple(ANIMALS)
    assert tokenize_prompts(prompts, tokenizer, max_tokens=max_tokens).input_ids.shape[1] <= max_tokens


def test_names_of_many_pieces_stay_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    labels = ["cat", "hippogriff", "dog"]  # 1, 4 and 1 tokens
    prompts = pack_labels(labels, tokenizer, max_tokens=7)
    assert [prompt.caption for prompt in prompts] == ["cat", "hippogriff", "dog"]
    prompts = pack_labels(labels, tokenizer, max_tokens=8)
    assert [prompt.caption for prompt in prompts] == ["cat. hippogriff", "dog"]


def test_names_that_repeat_keep_places_of_their_own(tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = pack_labels(["cat", "dog", "cat", "cat"], tokenizer, chunk_size=2)
    assert [prompt.caption for prompt in prompts] == ["cat. dog", "cat. cat"]
    assert [prompt.labels for prompt in prompts] == [(0, 1), (2, 3)]
    assert phrase_texts(prompts) == ("cat", "dog", "cat", "cat")


def test_a_longer_separator_takes_its_room(tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = pack_labels(ANIMALS[:3], tokenizer, separator=" or else ", max_tokens=6)
    assert [prompt.caption for prompt in prompts] == ["cat or else dog", "horse"]


def test_a_list_over_the_published_limit_is_split(tokenizer: PreTrainedTokenizerBase) -> None:
    labels = ["cat"] * 300  # 127 names, 126 separators, CLS and SEP are 255 tokens; one more name would be 257
    prompts = pack_labels(labels, tokenizer)
    assert [len(prompt.phrases) for prompt in prompts] == [127, 127, 46]
    assert tokenize_prompts(prompts, tokenizer).input_ids.shape == (3, 255)


def test_one_name_may_fill_the_limit_exactly(tokenizer: PreTrainedTokenizerBase) -> None:
    assert [prompt.caption for prompt in pack_labels(["cat dog horse"], tokenizer, max_tokens=5)] == ["cat dog horse"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param([], "at least one class", id="an empty list"),
        pytest.param("cat", r"write \['cat'\]", id="a string instead of a list"),
        pytest.param(["cat", " "], "label 1", id="a blank name"),
        pytest.param(["cat", "cat dog horse cow"], "'cat dog horse cow' has 4 tokens, at most 3", id="a name over it"),
    ],
)
def test_a_list_that_cannot_be_packed_is_refused(
    labels: list[str], message: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(PromptError, match=message):
        pack_labels(labels, tokenizer, max_tokens=5)


@pytest.mark.parametrize("chunk_size", [0, -1])
def test_a_chunk_holds_at_least_one_name(chunk_size: int, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="chunk_size"):
        pack_labels(ANIMALS, tokenizer, chunk_size=chunk_size)
