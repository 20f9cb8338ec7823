"""The text layer is the post-norm encoder layer of the Transformer paper, as torch builds it."""

import torch
from torch import nn

from glip.layers.transformer import LAYER_NORM_EPS, PostNormEncoderLayer

DIM, HEADS, WIDE = 12, 3, 20


def make_layer(dropout: float = 0.0) -> PostNormEncoderLayer:
    torch.manual_seed(0)
    layer = PostNormEncoderLayer(DIM, num_heads=HEADS, feedforward_dim=WIDE, dropout=dropout)
    for norm in (layer.attention_norm, layer.feedforward_norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return layer


def torch_layer_with_weights_of(layer: PostNormEncoderLayer) -> nn.TransformerEncoderLayer:
    twin = nn.TransformerEncoderLayer(
        DIM, HEADS, WIDE, 0.0, "gelu", layer_norm_eps=LAYER_NORM_EPS, batch_first=True, norm_first=False
    )
    projections = [layer.query, layer.key, layer.value]
    state = {
        "self_attn.in_proj_weight": torch.cat([projection.weight for projection in projections]),
        "self_attn.in_proj_bias": torch.cat([projection.bias for projection in projections]),
    }
    pairs = {
        "self_attn.out_proj": layer.attention_out,
        "linear1": layer.expand,
        "linear2": layer.contract,
        "norm1": layer.attention_norm,
        "norm2": layer.feedforward_norm,
    }
    for name, part in pairs.items():
        state |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    twin.load_state_dict(state)
    return twin


def test_it_equals_torchs_encoder_layer_on_real_words() -> None:
    layer = make_layer()
    words = torch.randn(2, 5, DIM)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    expected = torch_layer_with_weights_of(layer)(words, src_key_padding_mask=~mask)
    torch.testing.assert_close(layer(words, mask)[mask], expected[mask])


def test_padding_words_do_not_change_real_ones() -> None:
    layer = make_layer()
    words = torch.randn(1, 5, DIM)
    mask = torch.tensor([[True, True, True, False, False]])
    other = words.clone()
    other[:, 3:] = 50.0
    torch.testing.assert_close(layer(words, mask)[:, :3], layer(other, mask)[:, :3], rtol=0, atol=0)
    torch.testing.assert_close(layer(words, mask)[:, :3], layer(words[:, :3], mask[:, :3]))


def test_dropout_acts_in_training_only() -> None:
    layer = make_layer(dropout=0.5)
    words, mask = torch.randn(1, 5, DIM), torch.ones(1, 5, dtype=torch.bool)
    calm = layer.eval()(words, mask)
    torch.testing.assert_close(calm, make_layer()(words, mask))
    assert not torch.equal(layer.train()(words, mask), calm)


def test_no_captions_give_no_captions() -> None:
    assert make_layer()(torch.zeros(0, 5, DIM), torch.ones(0, 5, dtype=torch.bool)).shape == (0, 5, DIM)


def test_gradient_reaches_every_parameter() -> None:
    layer = make_layer()
    result = layer(torch.randn(2, 5, DIM), torch.ones(2, 5, dtype=torch.bool))
    (result * torch.randn(2, 5, DIM)).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        if name != "key.bias":  # moves all scores of a word alike, which the softmax undoes
            assert parameter.grad.abs().max() > 1e-4, name
