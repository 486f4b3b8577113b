"""The Transformer of models/transformer.h written plainly for PyTorch.

Letters: B sentences, S source length, T target length, D model width, V vocabulary.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

BOS = 2


def positions(length, d):
    """[length, d]: sines at even columns, cosines at odd ones."""
    angle = torch.arange(length)[:, None] / 10000.0 ** (torch.arange(0, d, 2) / d)[None, :]
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def linear(d, out):
    layer = nn.Linear(d, out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Query, key and value projections are one matrix for self-attention, two for the source."""

    def __init__(self, c, source):
        super().__init__()
        self.heads, self.dropout = c.heads, c.attention_dropout
        self.q = linear(c.dim, c.dim) if source else None
        self.kv = linear(c.dim, (2 if source else 3) * c.dim)
        self.out = linear(c.dim, c.dim)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def projections(self, x):
        return [self.split(part) for part in self.kv(x).split(self.out.in_features, -1)]

    def attend(self, q, k, v, keys=None, causal=False):
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, keys, dropout, is_causal=causal)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x, keys, memory=None, causal=False):
        if memory is None:
            return self.attend(*self.projections(x), keys, causal)
        return self.attend(self.split(self.q(x)), *self.projections(memory), keys)


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.inner, self.outer = linear(c.dim, c.ffn), linear(c.ffn, c.dim)
        self.act = F.gelu if c.activation == "gelu" else F.relu
        self.dropout = c.activation_dropout

    def forward(self, x):
        return self.outer(F.dropout(self.act(self.inner(x)), self.dropout, self.training))


class Residual(nn.Module):
    """Norm, block, dropout and residual; the norm in front or behind."""

    def __init__(self, c, block):
        super().__init__()
        self.block, self.norm = block, nn.LayerNorm(c.dim)
        self.pre, self.dropout = c.norm == "pre", c.dropout

    def around(self, x, block):
        y = block(self.norm(x) if self.pre else x)
        y = x + F.dropout(y, self.dropout, self.training)
        return y if self.pre else self.norm(y)

    def forward(self, x, *args, **options):
        return self.around(x, lambda y: self.block(y, *args, **options))


class Layer(nn.Module):
    def __init__(self, c, decoder):
        super().__init__()
        self.self_ = Residual(c, Attention(c, False))
        self.source = Residual(c, Attention(c, True)) if decoder else None
        self.ffn = Residual(c, FeedForward(c))

    def forward(self, x, keys, memory=None, memory_keys=None):
        x = self.self_(x, keys, causal=memory is not None)
        if memory is not None:
            x = self.source(x, memory_keys, memory)
        return self.ffn(x)

    def step(self, x, cache, position, longest, memory_keys):
        """One position [B, 1, D]; `cache`: keys and values of the layer, [B, heads, .., d].
        `longest` positions of the cache are looked at; None: all, by a mask."""

        def self_attention(y):
            q, k, v = self.self_.block.projections(y)
            cache["k"].index_copy_(2, position, k.to(cache["k"].dtype))
            cache["v"].index_copy_(2, position, v.to(cache["v"].dtype))
            if longest is not None:
                keys, k, v = None, cache["k"][:, :, :longest], cache["v"][:, :, :longest]
            else:
                k, v = cache["k"], cache["v"]
                keys = (torch.arange(k.shape[2], device=x.device) <= position)[None, None, None, :]
            return self.self_.block.attend(q, k.to(q.dtype), v.to(q.dtype), keys)

        def source_attention(y):
            block = self.source.block
            q = block.split(block.q(y))
            return block.attend(q, cache["source_k"], cache["source_v"], memory_keys)

        x = self.self_.around(x, self_attention)
        return self.ffn(self.source.around(x, source_attention))


class Transformer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c

        def table(n):
            return nn.Parameter(torch.randn(n, c.dim) / math.sqrt(c.dim))

        self.target = table(c.tgt_vocab)
        self.source = table(c.src_vocab) if c.embeddings != "joint" else None
        self.readout = table(c.tgt_vocab) if c.embeddings == "separate" else None
        self.encoder = nn.ModuleList(Layer(c, False) for _ in range(c.encoder_layers))
        self.decoder = nn.ModuleList(Layer(c, True) for _ in range(c.decoder_layers))
        pre = c.norm == "pre"
        self.encoder_norm = nn.LayerNorm(c.dim) if pre else nn.Identity()
        self.decoder_norm = nn.LayerNorm(c.dim) if pre else nn.Identity()
        self.register_buffer("table", positions(c.max_len, c.dim), persistent=False)

    def keys(self, length, n):
        return (torch.arange(n, device=length.device) < length[:, None])[:, None, None, :]

    def embed(self, table, ids):
        x = F.embedding(ids, table) * math.sqrt(self.c.dim) + self.table[: ids.shape[1]]
        return F.dropout(x, self.c.dropout, self.training)

    def encode(self, src, keys):
        x = self.embed(self.target if self.source is None else self.source, src)
        for layer in self.encoder:
            x = layer(x, keys)
        return self.encoder_norm(x)

    def logits(self, x):
        return F.linear(x, self.target if self.readout is None else self.readout)

    def loss(self, src, src_len, tgt_in, tgt_out, tgt_len):
        """Label-smoothed cross-entropy, a mean over target tokens. Padding stands behind the words,
        where the causal mask hides it."""
        source_keys = self.keys(src_len, src.shape[1])
        memory = self.encode(src, source_keys)
        x = self.embed(self.target, tgt_in)
        for layer in self.decoder:
            x = layer(x, None, memory, source_keys)
        logits = self.logits(self.decoder_norm(x))
        behind = torch.arange(tgt_out.shape[1], device=src.device) >= tgt_len[:, None]
        return F.cross_entropy(logits.flatten(0, 1), tgt_out.masked_fill(behind, -100).flatten(),
                               label_smoothing=self.c.label_smoothing)

    def caches(self, memory, length):
        """Per layer: keys and values of the source, and room for those of the target."""
        caches = []
        for layer in self.decoder:
            k, v = layer.source.block.projections(memory)
            b, heads, _, d = k.shape
            room = [memory.new_zeros(b, heads, length, d) for _ in range(2)]
            caches.append({"source_k": k, "source_v": v, "k": room[0], "v": room[1]})
        return caches

    def step(self, token, position, caches, longest, source_keys):
        """Words [B] at a position [1] -> the likeliest next words [B]."""
        x = F.embedding(token[:, None], self.target) * math.sqrt(self.c.dim)
        x = x + self.table.index_select(0, position)
        for layer, cache in zip(self.decoder, caches):
            x = layer.step(x, cache, position, longest, source_keys)
        return self.logits(self.decoder_norm(x))[:, 0].argmax(-1)
