"""Words to features: BERT (Devlin et al. 2019) without its pooler."""

from typing import Any

from torch import Tensor, nn
from transformers import BertConfig, BertModel


class TextEncoder(nn.Module):
    """The last hidden states of a BERT.

    Args:
        text: arguments of `transformers.BertConfig`.
    """

    def __init__(self, text: dict[str, Any]) -> None:
        super().__init__()
        config = BertConfig(**text)
        self.dim: int = config.hidden_size
        self.num_heads: int = config.num_attention_heads
        self.feedforward_dim: int = config.intermediate_size
        self.bert = BertModel(config, add_pooling_layer=False)

    @property
    def word_embedding(self) -> Tensor:
        """`(V, D)`, what each token is before its sentence is read."""
        weight: Tensor = self.bert.get_input_embeddings().weight
        return weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode captions.

        Args:
            input_ids: `(B, L)` int64.
            attention_mask: `(B, L)` bool, True on real tokens.

        Returns:
            `(B, L, D)`; positions of padding hold values that mean nothing.
        """
        hidden: Tensor = self.bert(
            input_ids=input_ids, attention_mask=attention_mask.long(), use_cache=False
        ).last_hidden_state
        return hidden
