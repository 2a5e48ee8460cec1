"""SASRec (Kang & McAuley, "Self-Attentive Sequential Recommendation", 2018) on packed sequences."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels import jagged_causal_attention
from sasrec.errors import DataError
from sasrec.model.config import ModelConfig
from sasrec.model.dropout import Dropout
from sasrec.model.item_features import ItemFeatures

INITIAL_STD = 0.02
TIME_BUCKETS = 32  # octaves of seconds: up to 68 years


class Attention(nn.Module):
    """Causal multi-head self-attention within each sequence (section III-B)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.output = nn.Linear(config.dim, config.dim)
        self.position_bias = _table(config.position_bias, config.heads, config.max_length)
        self.time_bias = _table(config.time_bias, config.heads, TIME_BUCKETS)

    def forward(self, x: Tensor, cu_seqlens: Tensor, timestamps: Tensor | None) -> Tensor:
        """(T, dim) to (T, dim)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        attended = jagged_causal_attention(
            q,
            k,
            v,
            cu_seqlens,
            dropout_p=self.dropout if self.training else 0.0,
            position_bias=self.position_bias,
            time_bias=self.time_bias,
            timestamps=timestamps if self.time_bias is not None else None,
        )
        return self.output(attended.flatten(1))


def _table(wanted: bool, heads: int, entries: int) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(heads, entries)) if wanted else None


class FeedForward(nn.Module):
    """Point-wise two-layer network (section III-C), or SwiGLU (Shazeer 2020, equation 6)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = round(config.dim * config.feed_forward_multiplier)
        self.gated = config.feed_forward == "swiglu"
        self.expand = nn.Linear(config.dim, 2 * hidden if self.gated else hidden)
        self.dropout = Dropout(config.dropout)
        self.contract = nn.Linear(hidden, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(T, dim) to (T, dim)."""
        x = self.expand(x)
        if self.gated:
            gate, value = x.chunk(2, dim=-1)
            x = F.silu(gate) * value
        else:
            x = F.relu(x)
        return self.contract(self.dropout(x))


class Block(nn.Module):
    """Attention and feed-forward, each with its norm, dropout and residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.dim)
        self.feed_forward = FeedForward(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        timestamps: Tensor | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """(T, dim) to (T, dim), or to (n, dim) when only the tokens `rows` (n,) are needed."""
        normed = self.attention_norm(x) if self.pre_norm else x
        attended = self.attention(normed, cu_seqlens, timestamps)
        if rows is not None:
            x, attended = x[rows], attended[rows]
        x = x + self.dropout(attended)
        if self.pre_norm:
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x)
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class OutputNorm(nn.LayerNorm):
    """The final norm; for cosine scores also to length one, over the temperature."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.dim)
        self.cosine_temperature = config.cosine_temperature

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim) to (n, dim)."""
        x = super().forward(x)
        if not self.cosine_temperature:
            return x
        return F.normalize(x, dim=-1) / self.cosine_temperature


class ItemEmbedding(nn.Embedding):
    """A learned row per item, plus the mean of its features' rows if there are any.

    In training a share of the items is known by features alone (DropoutNet: Volkovs et al. 2017),
    so that these learn to stand in for the row that an item without interactions does not have.
    """

    rows: Tensor
    offsets: Tensor

    def __init__(self, config: ModelConfig, num_items: int, features: ItemFeatures | None) -> None:
        super().__init__(num_items + 1, config.dim, padding_idx=0)
        self.id_dropout = config.id_dropout
        self.cosine = config.cosine_temperature > 0
        self.features = None
        if features is not None:
            self.features = nn.EmbeddingBag(config.feature_buckets, config.dim, mode="mean")
            self.register_buffer("rows", torch.from_numpy(features.rows))
            self.register_buffer("offsets", torch.from_numpy(features.offsets[:-1]))

    def matrix(self, items: Tensor | None = None) -> Tensor:
        """(V + 1, dim), of length one for cosine scores; row 0 is padding.

        Args:
            items: (n,) int64; the rows of these alone, (n, dim), at the cost of these alone.
        """
        matrix = self.weight if items is None else F.embedding(items, self.weight)
        if self.features is not None:
            if self.training:
                keep = torch.rand(len(matrix), 1, device=matrix.device) >= self.id_dropout
                matrix = matrix * keep
            matrix = matrix + self.features(*self._features_of(items))
        return F.normalize(matrix, dim=1) if self.cosine else matrix

    def _features_of(self, items: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows of the features' table, end to end, and where those of each item begin."""
        if items is None:
            return self.rows, self.offsets
        ends = torch.cat([self.offsets[1:], self.offsets.new_tensor([len(self.rows)])])
        start, count = self.offsets[items], (ends - self.offsets)[items]
        offsets = count.cumsum(0) - count
        entry = torch.arange(int(count.sum()), device=items.device)
        return self.rows[entry + (start - offsets).repeat_interleave(count)], offsets


class SASRec(nn.Module):
    """Item and position embeddings, blocks, and a final norm; scores are products with the items.

    Args:
        config: the architecture.
        num_items: V; items are 1..V and 0 is padding.
        features: of the items; given exactly when `config.feature_buckets` is not 0.
    """

    def __init__(
        self, config: ModelConfig, num_items: int, features: ItemFeatures | None = None
    ) -> None:
        super().__init__()
        if (features is None) != (config.feature_buckets == 0):
            raise DataError(
                f"model: feature_buckets is {config.feature_buckets}, but item features are "
                + ("missing" if features is None else "given; set it to the size of their table")
            )
        self.config = config
        self.item_embedding = ItemEmbedding(config, num_items, features)
        self.position_embedding = (
            nn.Embedding(config.max_length, config.dim) if config.positions != "none" else None
        )
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = OutputNorm(config)
        self.apply(_initialise)
        if config.cosine_temperature:  # rows of length one, as they will be used
            self.item_embedding.weight.data.mul_(config.dim**-0.5 / INITIAL_STD)

    @property
    def num_items(self) -> int:
        """V."""
        return self.item_embedding.num_embeddings - 1

    def forward(
        self,
        items: Tensor,
        cu_seqlens: Tensor,
        timestamps: Tensor | None = None,
        item_matrix: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (T, dim), each from its own and earlier events of its sequence.

        Args:
            items: (T,) int64 in 1..V, sequences end to end, none longer than `max_length`.
            cu_seqlens: (B + 1,) int32.
            timestamps: (T,) int64, seconds; used with `time_bias` alone.
            item_matrix: what `items` index; by default that of the model.
        """
        x = self._embed(items, cu_seqlens, item_matrix)
        for block in self.blocks:
            x = block(x, cu_seqlens, timestamps)
        return self.norm(x)

    def encode_last(
        self, items: Tensor, cu_seqlens: Tensor, timestamps: Tensor | None = None
    ) -> Tensor:
        """Hidden states (B, dim) of the newest event of each sequence; none may be empty."""
        x = self._embed(items, cu_seqlens)
        for block in self.blocks[:-1]:
            x = block(x, cu_seqlens, timestamps)
        newest = cu_seqlens[1:].long() - 1
        return self.norm(self.blocks[-1](x, cu_seqlens, timestamps, newest))

    def item_matrix(self, items: Tensor | None = None) -> Tensor:
        """Output embeddings (V + 1, dim), tied to the input ones; row 0 is padding.

        Args:
            items: (n,) int64; their rows alone, (n, dim).
        """
        return self.item_embedding.matrix(items)

    def _embed(
        self, items: Tensor, cu_seqlens: Tensor, item_matrix: Tensor | None = None
    ) -> Tensor:
        x = F.embedding(items, self.item_matrix() if item_matrix is None else item_matrix)
        if self.position_embedding is not None:
            x = x + self.position_embedding(self._positions(len(items), cu_seqlens))
        return self.dropout(x)

    def _positions(self, tokens: int, cu_seqlens: Tensor) -> Tensor:
        """(T,) distance of each token from the oldest or the newest event of its sequence."""
        cu_seqlens = cu_seqlens.long()
        lengths = cu_seqlens.diff()
        index = torch.arange(tokens, device=cu_seqlens.device)
        if self.config.positions == "oldest":
            return index - cu_seqlens[:-1].repeat_interleave(lengths, output_size=tokens)
        return cu_seqlens[1:].repeat_interleave(lengths, output_size=tokens) - 1 - index


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
