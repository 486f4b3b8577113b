"""FlowSeq (Ma et al. 2019) written plainly for PyTorch: the model that models/flowseq.h builds.

Parameters are named as in the authors' checkpoints, so that one of them can be loaded and compared
(peer_torch.py --check). Letters: B sentences, S source length, T target length, D model width, d
width of a coupling's network, u side of an invertible matrix, V vocabulary, R range of length
differences. Masks are 1.0 at valid positions: [B, T].
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

PAD = 0
LN_2_PI = math.log(2 * math.pi)


def positions(length, d):
    """[length + 1, d]: sines, then cosines; row 0 is zero."""
    half = d // 2
    rate = torch.exp(torch.arange(half) * (-math.log(10000.0) / max(half - 1, 1)))
    angle = torch.arange(length + 1)[:, None] * rate[None, :]
    table = torch.cat([angle.sin(), angle.cos(), torch.zeros(length + 1, d % 2)], -1)
    table[0] = 0
    return table


class Mask:
    """Valid positions in the forms that layers want."""

    def __init__(self, rows):
        self.rows = rows  # [B, T]
        self.column = rows[:, :, None]  # [B, T, 1]
        self.keys = (rows > 0)[:, None, None, :]  # [B, 1, 1, T]
        self.count = rows.sum(1)  # [B]

    def every_second(self):
        return Mask(self.rows[:, ::2])


# ---- blocks ----


class Attention(nn.Module):
    """Post-norm attention without an output projection; the residual is the query itself."""

    def __init__(self, d, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d, d).uniform_(-1, 1) * math.sqrt(3 / d))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d))
        self.layer_norm = nn.LayerNorm(d)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, q, keys, memory=None):
        w, b, d = self.in_proj_weight, self.in_proj_bias, q.shape[-1]
        if memory is None:
            a, k, v = F.linear(q, w, b).chunk(3, -1)
        else:
            a = F.linear(q, w[:d], b[:d])
            k, v = F.linear(memory, w[d:], b[d:]).chunk(2, -1)
        y = F.scaled_dot_product_attention(self.split(a), self.split(k), self.split(v), keys)
        y = y.transpose(1, 2).flatten(2)
        return self.layer_norm(F.dropout(y, self.dropout, self.training) + q)


class FeedForward(nn.Module):
    def __init__(self, d, hidden, dropout):
        super().__init__()
        self.dropout = dropout
        self.linear1, self.linear2 = nn.Linear(d, hidden), nn.Linear(hidden, d)
        self.layer_norm = nn.LayerNorm(d)

    def forward(self, x):
        y = F.dropout(F.relu(self.linear1(x)), self.dropout, self.training)
        y = F.dropout(self.linear2(y), self.dropout, self.training)
        return self.layer_norm(x + y)


class EncoderLayer(nn.Module):
    def __init__(self, d, hidden, heads, dropout):
        super().__init__()
        self.slf_attn = Attention(d, heads, dropout)
        self.pos_ffn = FeedForward(d, hidden, dropout)

    def forward(self, x, mask):
        return self.pos_ffn(self.slf_attn(x, mask.keys))


class DecoderLayer(nn.Module):
    def __init__(self, d, hidden, heads, dropout):
        super().__init__()
        self.slf_attn = Attention(d, heads, dropout)
        self.enc_attn = Attention(d, heads, dropout)
        self.pos_ffn = FeedForward(d, hidden, dropout)

    def forward(self, x, mask, src, src_mask):
        x = self.slf_attn(x, mask.keys)
        return self.pos_ffn(self.enc_attn(x, src_mask.keys, src))


class WeightNorm(nn.Module):
    """Rows of fixed direction and learned length. `frozen` holds the product for decoding."""

    def __init__(self, d, out):
        super().__init__()
        inner = nn.Module()
        inner.weight_v = nn.Parameter(torch.randn(out, d) * 0.05)
        inner.weight_g = nn.Parameter(inner.weight_v.detach().norm(dim=1, keepdim=True))
        inner.bias = nn.Parameter(torch.zeros(out))
        self.linear, self.frozen = inner, None

    def weight(self):
        v = self.linear.weight_v
        return self.linear.weight_g * (v / v.norm(dim=1, keepdim=True))

    def freeze(self):
        self.frozen = self.weight().detach()

    def forward(self, x):
        weight = self.weight() if self.frozen is None else self.frozen
        return F.linear(x, weight, self.linear.bias)


# ---- the prior's layers: density(x) -> y, log-determinant [B]; sample(y) -> x ----


class Actnorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.log_scale = nn.Parameter(torch.randn(d) * 0.05)
        self.bias = nn.Parameter(torch.zeros(d))
        self.inverse = None

    def freeze(self):
        self.inverse = (-self.log_scale).exp().detach()

    def density(self, x, source, mask):
        y = (x * self.log_scale.exp() + self.bias) * mask.column
        return y, mask.count * self.log_scale.sum()

    def sample(self, y, source, mask):
        scale = (-self.log_scale).exp() if self.inverse is None else self.inverse
        return (y - self.bias) * scale * mask.column


class InvertibleHeads(nn.Module):
    """One u x u matrix for all groups of channels: neighbours, or (interleaved) D/u apart."""

    def __init__(self, d, interleaved):
        super().__init__()
        u = next(u for u in (32, 16, 8) if d % u == 0)
        self.u, self.groups, self.interleaved = u, d // u, interleaved
        q, r = torch.linalg.qr(torch.randn(u, u))
        self.weight = nn.Parameter(q * r.diagonal().sign())
        self.inverse = None

    def freeze(self):
        self.inverse = torch.linalg.inv(self.weight).detach()

    def apply_matrix(self, x, w):
        if not self.interleaved:
            return F.linear(x.unflatten(-1, (-1, self.u)), w).flatten(-2)
        x = x.unflatten(-1, (self.u, -1)).transpose(-1, -2)
        return F.linear(x, w).transpose(-1, -2).flatten(-2)

    def density(self, x, source, mask):
        log_det = torch.linalg.slogdet(self.weight)[1]
        return self.apply_matrix(x, self.weight), mask.count * (self.groups * log_det)

    def sample(self, y, source, mask):
        inverse = torch.linalg.inv(self.weight) if self.inverse is None else self.inverse
        return self.apply_matrix(y, inverse)


class CouplingNet(nn.Module):
    """What a coupling makes of the part that conditions: shift and raw scale."""

    def __init__(self, c, d, out, attend):
        super().__init__()
        self.src_proj = nn.Linear(c.dim, d, bias=False) if d != c.dim else None
        self.pos_attn = Attention(d, c.prior_heads, c.prior_dropout) if attend else None
        self.transformer = DecoderLayer(d, c.prior_hidden, c.prior_heads, c.prior_dropout)
        self.linear = WeightNorm(d, 2 * out)
        self.register_buffer("table", positions(c.max_positions, d), persistent=False)

    def forward(self, x, source, mask):
        src, src_mask = source
        if self.src_proj is not None:
            src = self.src_proj(src)
        p = self.table[1 : x.shape[1] + 1] * mask.column
        x = x + p if self.pos_attn is None else self.pos_attn(p, mask.keys, x)
        return self.linear(self.transformer(x, mask, src, src_mask)).chunk(2, -1)


class Coupling(nn.Module):
    def __init__(self, c, split, order, attend=False):
        super().__init__()
        self.split_kind, self.up = split, order == "up"
        d = c.dim if split == "time" else c.dim // 2
        self.net = CouplingNet(c, d, d, attend)

    def split(self, x):
        if self.split_kind == "halves":
            return x.chunk(2, -1)
        if self.split_kind == "alternate":
            return x.unflatten(-1, (-1, 2)).unbind(-1)
        return x.unflatten(1, (-1, 2)).unbind(2)

    def join(self, a, b):
        if self.split_kind == "halves":
            return torch.cat([a, b], -1)
        if self.split_kind == "alternate":
            return torch.stack([a, b], -1).flatten(-2)
        return torch.stack([a, b], 2).flatten(1, 2)

    def parts(self, x, source, mask):
        a, b = self.split(x)
        given, other = (a, b) if self.up else (b, a)
        if self.split_kind == "time":
            mask = mask.every_second()
        shift, raw = self.net(given, source, mask)
        return given, other, shift, raw.to(x.dtype) + 2, mask

    def whole(self, given, other):
        return self.join(given, other) if self.up else self.join(other, given)

    def density(self, x, source, mask):
        given, other, shift, raw, mask = self.parts(x, source, mask)
        y = (torch.sigmoid(raw) * other + shift) * mask.column
        return self.whole(given, y), (F.logsigmoid(raw) * mask.column).sum((1, 2))

    def sample(self, y, source, mask):
        given, other, shift, raw, mask = self.parts(y, source, mask)
        return self.whole(given, (other - shift) / torch.sigmoid(raw) * mask.column)


class Sequence(nn.Module):
    """Layers in the density's order, named by attributes."""

    def add(self, **layers):
        for name, layer in layers.items():
            self.add_module(name, layer)

    def density(self, x, source, mask):
        log_det = 0
        for layer in self.children():
            x, one = layer.density(x, source, mask)
            log_det = log_det + one
        return x, log_det

    def sample(self, y, source, mask):
        for layer in reversed(list(self.children())):
            y = layer.sample(y, source, mask)
        return y


class PositionBlock(Sequence):
    def __init__(self, c):
        super().__init__()
        self.add(actnorm=Actnorm(c.dim), coupling_up=Coupling(c, "halves", "up", attend=True),
                 coupling_down=Coupling(c, "halves", "down"))


class Unit(Sequence):
    def __init__(self, c, over_time):
        super().__init__()
        self.add(coupling1_up=Coupling(c, "halves", "up"),
                 coupling1_down=Coupling(c, "halves", "down"), actnorm1=Actnorm(c.dim),
                 coupling2_up=Coupling(c, "alternate", "up"),
                 coupling2_down=Coupling(c, "alternate", "down"))
        if over_time:
            self.add(actnorm2=Actnorm(c.dim), coupling3_up=Coupling(c, "time", "up"),
                     coupling3_down=Coupling(c, "time", "down"))


class Step(Sequence):
    def __init__(self, c, over_time):
        super().__init__()
        self.add(actnorm1=Actnorm(c.dim), linear1=InvertibleHeads(c.dim, False),
                 unit1=Unit(c, over_time), actnorm2=Actnorm(c.dim),
                 linear2=InvertibleHeads(c.dim, True), unit2=Unit(c, over_time))


class Steps(Sequence):
    def __init__(self, c, n, over_time):
        super().__init__()
        self.add(**{str(i): Step(c, over_time) for i in range(n)})


class Scale(Sequence):
    def __init__(self, c, n, last):
        super().__init__()
        self.add(pos_attn=PositionBlock(c), steps=Steps(c, n, not last))
        if not last:
            self.add(prior=Coupling(c, "halves", "up"))


class Flow(nn.Module):
    """Scales; between them half of the channels leaves, and two positions of the rest join."""

    def __init__(self, c):
        super().__init__()
        last = len(c.steps) - 1
        self.blocks = nn.ModuleList(Scale(c, n, i == last) for i, n in enumerate(c.steps))

    def squeeze(self, x):
        kept, left = x.chunk(2, -1)
        return kept.unflatten(1, (-1, 2)).flatten(2), left

    def unsqueeze(self, x, left):
        return torch.cat([x.unflatten(2, (2, -1)).flatten(1, 2), left], -1)

    def masks(self, mask):
        masks = [mask]
        for _ in self.blocks[1:]:
            masks.append(masks[-1].every_second())
        return masks

    def density(self, z, source, mask):
        log_det, set_aside, masks = 0, [], self.masks(mask)
        for i, block in enumerate(self.blocks):
            if i > 0:
                z, left = self.squeeze(z)
                set_aside.append(left)
            z, one = block.density(z, source, masks[i])
            log_det = log_det + one
        while set_aside:
            z = self.unsqueeze(z, set_aside.pop())
        return z, log_det

    def sample(self, eps, source, mask):
        set_aside, masks = [], self.masks(mask)
        for _ in self.blocks[1:]:
            eps, left = self.squeeze(eps)
            set_aside.append(left)
        for i in reversed(range(len(self.blocks))):
            eps = self.blocks[i].sample(eps, source, masks[i])
            if set_aside:
                eps = self.unsqueeze(eps, set_aside.pop())
        return eps


class Lengths(nn.Module):
    """Class j of 2R + 1 is the length j + S - R."""

    def __init__(self, c, unit):
        super().__init__()
        d, self.range, self.unit = c.dim, c.length_range, unit
        self.ctx_proj = nn.Sequential(nn.Linear(d, d), nn.ELU(), nn.Linear(d, d), nn.ELU(),
                                      nn.Dropout(c.length_dropout))
        self.diff = nn.Linear(d, 2 * self.range + 1)

    def logits(self, state, src_len):
        x = self.diff(self.ctx_proj(state)).to(state.dtype)
        length = torch.arange(2 * self.range + 1, device=x.device) + src_len[:, None] - self.range
        return x.masked_fill(length % self.unit != 0, -math.inf), length

    def target(self, src_len, tgt_len):
        first, last = src_len - self.range, src_len + self.range
        t = (torch.maximum(tgt_len, first) + self.unit - 1) // self.unit * self.unit
        return torch.minimum(t, last) // self.unit * self.unit - first

    def loss(self, state, src_len, tgt_len, smoothing):
        logits, _ = self.logits(state, src_len)
        log_p = logits.log_softmax(-1)
        nll = -log_p.gather(1, self.target(src_len, tgt_len)[:, None])[:, 0]
        finite = logits > -math.inf
        spread = -log_p.masked_fill(~finite, 0).sum(1) / finite.sum(1)
        return (1 - smoothing) * nll + smoothing * spread

    def best(self, state, src_len, k):
        logits, length = self.logits(state, src_len)
        log_p = logits.log_softmax(-1).masked_fill(length <= 0, -math.inf)
        score, j = log_p.topk(k, -1)
        return length.gather(1, j), score


# ---- the model ----


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed = nn.Embedding(c.src_vocab, c.dim, padding_idx=PAD)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        self.core = nn.Module()
        self.core.layers = nn.ModuleList(
            EncoderLayer(c.dim, c.ffn, c.heads, c.dropout) for _ in range(c.encoder_layers))


def decoder_layers(c, n):
    return nn.ModuleList(DecoderLayer(c.dim, c.ffn, c.heads, c.dropout) for _ in range(n))


class Posterior(nn.Module):
    def __init__(self, c):
        super().__init__()
        if not c.shared:
            self.embed = nn.Embedding(c.tgt_vocab, c.dim, padding_idx=PAD)
            nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        self.core = nn.Module()
        self.core.layers = decoder_layers(c, c.posterior_layers)
        self.core.mu, self.core.logvar = WeightNorm(c.dim, c.dim), WeightNorm(c.dim, c.dim)


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.pos_attn = Attention(c.dim, c.heads, c.dropout)
        self.layers = decoder_layers(c, c.decoder_layers)
        self.readout = nn.Module()
        self.readout.bias = nn.Parameter(torch.zeros(c.tgt_vocab))
        if not c.shared:
            self.readout.weight = nn.Parameter(torch.empty(c.tgt_vocab, c.dim).uniform_(-0.1, 0.1))


class FlowSeq(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, self.unit = c, max(2, 2 ** (len(c.steps) - 1))
        self.encoder, self.posterior, self.decoder = Encoder(c), Posterior(c), Decoder(c)
        self.prior = nn.Module()
        self.prior.flow = Flow(c)
        self.prior._length_predictor = Lengths(c, self.unit)
        self.register_buffer("table", positions(c.max_positions, c.dim), persistent=False)

    def freeze(self):
        """What depends on parameters alone is computed once: for decoding."""
        for module in self.modules():
            if module is not self and hasattr(module, "freeze"):
                module.freeze()

    def mask(self, length, n):
        rows = torch.arange(n, device=length.device)[None, :] < length[:, None]
        return Mask(rows.to(self.table.dtype))

    def embed(self, embedding, ids, token_dropout):
        x = embedding(ids) * math.sqrt(self.c.dim)
        if token_dropout > 0:
            keep = F.dropout(x.new_ones(ids.shape), token_dropout, self.training)
            x = x * keep[:, :, None]
        x = x + self.table[1 : ids.shape[1] + 1]
        return F.dropout(x, self.c.embedding_dropout, self.training)

    def encode(self, src, src_len):
        mask = self.mask(src_len, src.shape[1])
        x = self.embed(self.encoder.embed, src, 0)
        for layer in self.encoder.core.layers:
            x = layer(x, mask)
        x = x * mask.column
        last = (src_len - 1)[:, None, None].expand(-1, 1, x.shape[-1])
        return (x, mask), x.gather(1, last)[:, 0]

    def infer(self, source, tgt, mask):
        p = self.posterior
        x = self.embed(self.encoder.embed if self.c.shared else p.embed, tgt, self.c.token_dropout)
        for layer in p.core.layers:
            x = layer(x, mask, *source)
        return p.core.mu(x) * mask.column, p.core.logvar(x) * mask.column

    def logits(self, source, z, mask):
        query = self.table[1 : z.shape[1] + 1] * mask.column
        x = self.decoder.pos_attn(query, mask.keys, z)
        for layer in self.decoder.layers:
            x = layer(x, mask, *source)
        weight = self.encoder.embed.weight if self.c.shared else self.decoder.readout.weight
        return F.linear(x, weight, self.decoder.readout.bias)

    def terms(self, src, src_len, tgt, tgt_len, noise=None, smoothing=0.0, length_smoothing=0.0):
        """Losses per sentence [B]: words, log q, log p(z), log-determinant, length."""
        source, state = self.encode(src, src_len)
        mask = self.mask(tgt_len, tgt.shape[1])
        mean, log_variance = self.infer(source, tgt, mask)
        if noise is None:
            noise = torch.randn_like(mean)
        z = (mean + (0.5 * log_variance).exp() * noise) * mask.column
        constant = mask.count * (self.c.dim * LN_2_PI)
        log_q = -0.5 * (((log_variance + noise**2) * mask.column).sum((1, 2)) + constant)
        eps, log_det = self.prior.flow.density(z, source, mask)
        log_prior = -0.5 * ((eps**2 * mask.column).sum((1, 2)) + constant) + log_det
        logits = self.logits(source, z, mask)
        words = F.cross_entropy(logits.flatten(0, 1), tgt.flatten(), reduction="none",
                                label_smoothing=smoothing).view(tgt.shape)
        length = self.prior._length_predictor.loss(state, src_len, tgt_len, length_smoothing)
        return (words * mask.rows).sum(1), log_q, log_prior, log_det, length

    def loss(self, src, src_len, tgt, tgt_len):
        """Mean over sentences, KL weight 1: the main phase of training."""
        words, log_q, log_prior, _, length = self.terms(
            src, src_len, tgt, tgt_len, None, self.c.label_smoothing, self.c.length_smoothing)
        return (words + log_q - log_prior + length).sum() / src.shape[0]

    def words_of(self, source, z, mask):
        logits = self.logits(source, z, mask)
        logits[:, :, PAD] = -math.inf
        return logits.argmax(-1)

    def decode(self, src, src_len, tgt_len, longest):
        """Argmax decoding at given lengths: the image of zero noise, then the likeliest words."""
        source, state = self.encode(src, src_len)
        lengths = self.prior._length_predictor.best(state, src_len, 1)
        mask = self.mask(tgt_len, longest)
        eps = torch.zeros(src.shape[0], longest, self.c.dim, device=src.device,
                          dtype=self.table.dtype)
        z = self.prior.flow.sample(eps, source, mask)
        return self.words_of(source, z, mask), lengths
