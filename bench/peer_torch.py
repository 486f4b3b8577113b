#!/usr/bin/env python3
"""Training steps and decoding of a recipe's model in PyTorch, measured as `weir bench` does.

Prints one line of JSON with the keys of `weir bench`, so that both fit one table
(bench/compare.sh). A training step is forward, backward, clipping and Adam or AdamW, with dropout
and label smoothing as the recipe says; decoding is greedy with cached keys and values (Transformer)
or argmax at the given length (FlowSeq), with what depends on parameters alone computed before.

    peer_torch.py --model recipes/flowseq-iwslt.yaml --what train --threads 2
    peer_torch.py --model recipes/flowseq-base.yaml --what decode --batch 1 --device cuda
    peer_torch.py --check FOLDER    a model of the authors' program against its values

Exit status: 0, 1 values of --check that differ, 2 wrong use, 77 PyTorch or the device is missing.
"""

import argparse
import contextlib
import csv
import json
import math
import os
import struct
import sys
import time
import warnings

MISSING = 77
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

try:
    import torch
except ImportError as problem:
    print(f"peer_torch: PyTorch cannot be loaded ({problem}): pip install torch, and run this with "
          "that Python", file=sys.stderr)
    sys.exit(MISSING)

import peer_flowseq  # noqa: E402
import peer_recipe  # noqa: E402
import peer_transformer  # noqa: E402


# ---- memory and time ----


def status_bytes(field):
    """A field of /proc/self/status in bytes; 0 where there is none."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


class Bench:
    def __init__(self, options):
        self.o, self.device = options, torch.device(options.device)
        self.loaded_bytes = status_bytes("VmRSS:")
        torch.manual_seed(1)
        torch.set_float32_matmul_precision("high" if options.precision == "tf32" else "highest")
        if options.threads > 0:
            torch.set_num_threads(options.threads)

    def compiled(self, function):
        return torch.compile(function, mode=self.o.compile) if self.o.compile else function

    def precision(self):
        if self.o.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def now(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def peak_bytes(self):
        """Of tensors on a GPU; on the CPU what the process took beyond the loaded libraries."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return status_bytes("VmHWM:") - self.loaded_bytes

    def ids(self, n, length, vocab):
        return torch.randint(4, vocab, (n, length), device=self.device)

    def lengths(self, value):
        return torch.full((self.o.batch,), value, device=self.device)

    def report(self, model, times, **more):
        o = self.o
        times = {name: sorted(x * 1e3 for x in values) for name, values in times.items()}
        out = {}
        for name, ms in times.items():
            out |= {name: round(ms[len(ms) // 2], 3), f"{name}_min": round(ms[0], 3),
                    f"{name}_max": round(ms[-1], 3)}
        out |= more
        out |= {"peak_bytes": self.peak_bytes(), "os_peak_bytes": status_bytes("VmHWM:"),
                "parameters": sum(p.numel() for p in model.parameters()),
                "threads": torch.get_num_threads(), "device": o.device, "precision": o.precision,
                "compiled": o.compile or "no", "program": f"PyTorch {torch.__version__}"}
        print(json.dumps(out))


# ---- training ----


def make_optimizer(model, c):
    """Fused, the fastest there is. `eps` is added behind the bias correction here."""
    o = c.optim
    kind = torch.optim.AdamW if o["type"] == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=1e-4, betas=(o["beta1"], o["beta2"]), eps=o["eps"],
                weight_decay=o["weight_decay"], amsgrad=o["amsgrad"], fused=True)


def bench_training(b, c, model):
    o = b.o
    src, tgt = b.ids(o.batch, o.src_len, c.src_vocab), b.ids(o.batch, o.tgt_len, c.tgt_vocab)
    batch = [src, b.lengths(o.src_len), tgt, b.lengths(o.tgt_len)]
    if isinstance(model, peer_transformer.Transformer):
        batch.insert(3, tgt)
    optimizer, loss_of = make_optimizer(model, c), b.compiled(model.loss)
    times, processor = [], []
    for _ in range(2 + o.repeat):
        start, used = b.now(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        with b.precision():
            loss = loss_of(*batch)
        loss.backward()
        if c.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), c.clip_norm)
        optimizer.step()
        times.append(b.now() - start)
        processor.append(time.process_time() - used)
    if not math.isfinite(loss.item()):
        raise SystemExit(f"peer_torch: the loss is {loss.item()}")
    times = times[2:]
    rate = o.batch * (o.src_len + o.tgt_len) / sorted(times)[len(times) // 2]
    b.report(model, {"step_ms": times, "processor_ms": processor[2:]}, tokens_per_s=round(rate, 1))


# ---- decoding ----


def bench_decoding(b, whole):
    """`whole` translates a batch, its words included, and tells how many steps took how long."""
    o, sentence, step, processor = b.o, [], [], []
    with torch.no_grad(), b.precision():
        for i in range(-2, o.repeat):
            start, used = b.now(), time.process_time()
            steps, seconds = whole()
            if i >= 0:
                sentence.append(b.now() - start)
                step.append(sentence[-1] if steps == 1 else seconds / steps)
                processor.append((time.process_time() - used) / steps)
    rate = o.batch * o.tgt_len / sorted(sentence)[len(sentence) // 2]
    times = {"sentence_ms": [x / o.batch for x in sentence], "step_ms": step}
    return {**times, "processor_ms": processor}, round(rate, 1)


def greedy(b, c, model):
    o = b.o
    src, src_len = b.ids(o.batch, o.src_len, c.src_vocab), b.lengths(o.src_len)
    encode, step = b.compiled(model.encode), b.compiled(model.step)
    position = [torch.tensor([t], device=b.device) for t in range(o.tgt_len)]

    def whole():
        keys = model.keys(src_len, o.src_len)
        caches = model.caches(encode(src, keys), o.tgt_len)
        stepping = b.now()
        words = [torch.full((o.batch,), peer_transformer.BOS, device=b.device)]
        for t in range(o.tgt_len):
            longest = None if o.compile else t + 1
            words.append(step(words[-1], position[t], caches, longest, keys))
        torch.stack(words).cpu()
        return o.tgt_len, b.now() - stepping

    return whole


def argmax(b, c, model):
    o = b.o
    src, src_len, tgt_len = (b.ids(o.batch, o.src_len, c.src_vocab), b.lengths(o.src_len),
                             b.lengths(o.tgt_len))
    decode = b.compiled(model.decode)

    def whole():
        decode(src, src_len, tgt_len, o.tgt_len)[0].cpu()
        return 1, None

    return whole


def bench(o):
    if o.device == "cuda" and not torch.cuda.is_available():
        print("peer_torch: PyTorch finds no GPU: --device cpu measures without one",
              file=sys.stderr)
        return MISSING
    c = peer_recipe.load(o.model, o.set, o.vocab)
    c.max_len = max(c.max_len, o.src_len, o.tgt_len)
    b = Bench(o)
    is_flowseq = c.type == "flowseq"
    if is_flowseq:
        c.max_positions = max(c.max_positions, o.src_len, o.tgt_len)
    model = (peer_flowseq.FlowSeq if is_flowseq else peer_transformer.Transformer)(c).to(b.device)
    if is_flowseq and o.tgt_len % model.unit != 0:
        raise peer_recipe.RecipeError(
            f"--tgt-len {o.tgt_len}: the model's lengths are multiples of {model.unit}")
    if o.what == "train":
        bench_training(b, c, model.train())
        return 0
    model.eval()
    if is_flowseq:
        model.freeze()
    times, rate = bench_decoding(b, (argmax if is_flowseq else greedy)(b, c, model))
    b.report(model, times, tokens_per_s=rate)
    return 0


# ---- a model of the authors' program ----


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        body = bytearray(f.read())
    kinds = {"F32": torch.float32, "F64": torch.float64}
    out = {}
    for name, x in header.items():
        if name != "__metadata__":
            first, last = x["data_offsets"]
            flat = torch.frombuffer(body[first:last], dtype=kinds[x["dtype"]])
            out[name] = flat.reshape(x["shape"])
    return out


def sizes_of_config(path):
    with open(path, encoding="utf-8") as f:
        x = json.load(f)
    flow, length = x["prior"]["flow"], x["prior"]["length_predictor"]
    return peer_recipe.Sizes(
        dim=x["latent_dim"], ffn=x["hidden_size"], heads=x["encoder"]["heads"],
        encoder_layers=x["encoder"]["num_layers"], decoder_layers=x["decoder"]["num_layers"],
        posterior_layers=x["posterior"]["num_layers"], dropout=0, embedding_dropout=0,
        token_dropout=0, src_vocab=x["src_vocab_size"], tgt_vocab=x["tgt_vocab_size"],
        shared=x["share_embed"], length_range=length["diff_range"], length_dropout=0,
        max_positions=flow["max_length"], steps=flow["num_steps"], prior_heads=flow["heads"],
        prior_hidden=flow["hidden_features"], prior_dropout=0)


def read_ids(path):
    with open(path, encoding="ascii") as f:
        rows = [[int(word) for word in line.split()] for line in f]
    out = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out, torch.tensor([len(row) for row in rows])


def values_of(model, src, src_len, tgt, tgt_len):
    """The columns of expected.tsv: numbers and words of each sentence."""
    noise = torch.zeros(*tgt.shape, model.c.dim, dtype=torch.double)
    recon, log_q, log_prior, log_det, length = model.terms(src, src_len, tgt, tgt_len, noise)
    source, state = model.encode(src, src_len)
    best, score = model.prior._length_predictor.best(state, src_len, 2)
    mask = model.mask(tgt_len, tgt.shape[1])
    mean, _ = model.infer(source, tgt, mask)
    reconstruction = model.words_of(source, mean, mask)
    words, _ = model.decode(src, src_len, tgt_len, tgt.shape[1])
    numbers = {"recon": recon, "log_q": log_q, "log_prior": log_prior, "kl": log_q - log_prior,
               "logdet": log_det, "length_nll": length, "length1": best[:, 0],
               "length1_logp": score[:, 0], "length2": best[:, 1], "length2_logp": score[:, 1]}
    return numbers, {"reconstruction": reconstruction, "decode_eps0": words}


def check(folder):
    """Load the folder's parameters by name and compare with its values, in double precision."""
    model = peer_flowseq.FlowSeq(sizes_of_config(os.path.join(folder, "config.json")))
    model.load_state_dict(read_safetensors(os.path.join(folder, "model.safetensors")))
    model = model.double().eval()
    src, src_len = read_ids(os.path.join(folder, "src.ids"))
    tgt, tgt_len = read_ids(os.path.join(folder, "tgt.ids"))
    with torch.no_grad():
        numbers, words = values_of(model, src, src_len, tgt, tgt_len)
    with open(os.path.join(folder, "expected.tsv"), encoding="utf-8") as f:
        rows = list(csv.DictReader(f, delimiter="\t"))
    worst, wrong = 0.0, 0
    for i, row in enumerate(rows):
        for name, values in numbers.items():
            expected = float(row[name])
            worst = max(worst, abs(values[i].item() - expected) / max(abs(expected), 1))
        for name, values in words.items():
            wrong += values[i, : tgt_len[i]].tolist() != [int(w) for w in row[name].split()]
    print(json.dumps({"sentences": len(rows), "values": len(rows) * len(numbers),
                      "largest_relative_difference": worst, "wrong_word_rows": wrong,
                      "parameters": sum(p.numel() for p in model.parameters())}))
    return 0 if worst < 2e-6 and wrong == 0 else 1


# ---- the program ----


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--model", metavar="RECIPE.yaml", help="the recipe to time")
    add("--check", metavar="FOLDER", help="compare with the values of a reference model instead")
    add("--what", choices=["train", "decode"], default="train")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--precision", choices=["f32", "tf32", "bf16"], default="f32")
    add("--compile", nargs="?", const="default", default="", metavar="MODE",
        help="by torch.compile: default, reduce-overhead or max-autotune")
    add("--vocab", metavar="N", help="size of the vocabularies, or of source and target as N,M")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key")
    for name, value in (("--batch", 32), ("--src-len", 24), ("--tgt-len", 24), ("--repeat", 10)):
        add(name, type=positive, default=value, metavar="N")
    add("--threads", type=int, default=0, metavar="N", help="processor threads; 0: all")
    o = parser.parse_args()
    if (o.model is None) == (o.check is None):
        parser.error("give --model RECIPE.yaml or --check FOLDER")
    if o.precision == "tf32" and o.device == "cpu":
        parser.error("--precision tf32 needs --device cuda")
    return o


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def main():
    o = options()
    try:
        return bench(o) if o.check is None else check(o.check)
    except (peer_recipe.RecipeError, OSError) as problem:
        print(f"peer_torch: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
