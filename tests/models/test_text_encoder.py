"""The text encoder gives BERT's last hidden states; pads change no real word."""

import torch
from transformers import BertConfig, BertModel

from glip.models.text_encoder import TextEncoder
from tests.reference.tiny_models import TINY_TEXT, random_captions


def make_encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(TINY_TEXT).eval()


def test_it_is_transformers_bert_without_its_pooler() -> None:
    encoder = make_encoder()
    bert = BertModel(BertConfig(**TINY_TEXT), add_pooling_layer=False).eval()
    bert.load_state_dict(encoder.bert.state_dict())
    ids, mask = random_captions(2), torch.ones(2, 7, dtype=torch.bool)
    torch.testing.assert_close(encoder(ids, mask), bert(ids).last_hidden_state)
    assert (encoder.dim, encoder.num_heads, encoder.feedforward_dim) == (24, 4, 48)


def test_pads_change_no_real_word() -> None:
    encoder = make_encoder()
    ids = random_captions(1)
    padded = torch.cat([ids, torch.zeros(1, 249, dtype=torch.int64)], dim=1)
    mask = (torch.arange(256) < 7).unsqueeze(0)
    alone = encoder(ids, torch.ones(1, 7, dtype=torch.bool))
    torch.testing.assert_close(encoder(padded, mask)[:, :7], alone, rtol=1e-5, atol=1e-5)


def test_a_caption_without_words_still_has_its_two_marks() -> None:
    assert make_encoder()(torch.tensor([[2, 3]]), torch.ones(1, 2, dtype=torch.bool)).shape == (1, 2, 24)
