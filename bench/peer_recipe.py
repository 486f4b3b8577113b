"""Sizes of a model from a recipe of this project, for peer_torch.py.

With PyYAML the file is read by it; else by a reader of what recipes are made of: sections of
`key: value`, and lists as `[a, b]` or a line for each item.
"""

import re


class RecipeError(Exception):
    """What is wrong with a recipe, in one line."""


DEFAULTS = {
    "model": {"type": "transformer", "dim": 256, "ffn": 1024, "heads": 4, "encoder_layers": 3,
              "decoder_layers": 3, "norm": "pre", "activation": "relu", "dropout": 0.1,
              "attention_dropout": 0, "activation_dropout": 0, "embeddings": None, "max_len": 256},
    "flowseq": {"encoder": "transformer", "posterior": "transformer", "decoder": "transformer",
                "posterior_layers": 3, "embedding_dropout": 0.2, "token_dropout": 0.2,
                "decoder_token_dropout": 0, "length_range": 20, "length_dropout": 0.33,
                "length_smoothing": 0.1, "literal": False},
    "prior": {"heads": 4, "hidden": 512, "dropout": 0, "net": "attention", "transform": "affine",
              "layers": ["position", "step x4", "coupling halves up", "factor_out halves",
                         "squeeze", "position", "step x4", "coupling halves up",
                         "factor_out halves", "squeeze", "position", "last_step x2"]},
    "data": {"src_vocab": 0, "tgt_vocab": 0, "length_multiple": 8},
    "train": {"label_smoothing": 0.1, "clip_norm": 1},
    "optim": {"type": "adam", "beta1": 0.9, "beta2": 0.98, "eps": 1e-9, "weight_decay": 0,
              "amsgrad": False},
}
# What PyTorch's side has one form of.
ONLY = {"flowseq": {"encoder": "transformer", "posterior": "transformer", "decoder": "transformer",
                    "decoder_token_dropout": 0, "literal": False},
        "prior": {"net": "attention", "transform": "affine"}}
BLOCKS = ("position", "step", "unit", "last_step", "last_unit")


def scalar(text):
    text = text.strip()
    if text.startswith("["):
        return [item.strip() for item in text.strip("[]").split(",") if item.strip()]
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip("'\"")


def read_flat(lines):
    tree, section, key = {}, None, None
    for line in lines:
        line = re.sub(r"(^|\s)#.*", "", line).rstrip()
        words = line.strip()
        if not words:
            continue
        if words.startswith("- "):
            section[key] = (section[key] or []) + [words[2:].strip()]
            continue
        key, _, value = words.partition(":")
        if not line.startswith(" "):
            section = tree.setdefault(key, {})
        else:
            section[key] = scalar(value) if value.strip() else None
    return tree


def read_file(path):
    try:
        with open(path, encoding="utf-8") as f:
            text = f.read()
    except OSError as e:
        raise RecipeError(f"{path}: {e.strerror}") from e
    try:
        import yaml  # pylint: disable=import-outside-toplevel
    except ImportError:
        return read_flat(text.splitlines())
    tree = yaml.safe_load(text)
    for section in tree.values():  # YAML 1.1 takes 1e-8 for text
        for key, value in section.items():
            section[key] = scalar(value) if isinstance(value, str) else value
    return tree


class Sizes:
    """Keys of the sections, with their defaults, in one place."""

    def __init__(self, **values):
        self.__dict__.update(values)


def steps_of(layers):
    """Steps of each scale of a prior of the usual form."""
    steps, item = [], r"step x(\d+)|step|last_step x(\d+)|last_step"
    form = []
    for layer in layers:
        match = re.fullmatch(item, layer)
        if match:
            steps.append(int(match.group(1) or match.group(2) or 1))
        form.append("last_step" if layer.startswith("last") else "step" if match else layer)
    scale = ["position", "step", "coupling halves up", "factor_out halves", "squeeze"]
    if form != scale * (len(steps) - 1) + ["position", "last_step"]:
        raise RecipeError("prior.layers: PyTorch's side has the usual scales only")
    return steps


def vocabularies(text, data):
    sizes = [data["src_vocab"] or 10000, data["tgt_vocab"] or 10000]
    if text is not None:
        parts = text.split(",")
        if len(parts) > 2 or not all(p.isdigit() and int(p) >= 8 for p in parts):
            raise RecipeError(f"--vocab '{text}': must be a whole number from 8, or two as 9,8")
        sizes = [int(parts[0]), int(parts[-1])]
    return sizes


def load(path, changes=(), vocab=None):
    """The sizes of the recipe's model. `changes`: texts SECTION.KEY=VALUE."""
    tree = read_file(path)
    for change in changes:
        name, equals, value = change.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot):
            raise RecipeError(f"--set {change}: must be SECTION.KEY=VALUE")
        tree.setdefault(section, {})[key] = scalar(value)
    known = {name: {**keys, **(tree.get(name) or {})} for name, keys in DEFAULTS.items()}
    kind = known["model"]["type"]
    if kind not in ("transformer", "flowseq"):
        raise RecipeError(f"{path}: model.type {kind}: PyTorch's side has transformer and flowseq")
    src, tgt = vocabularies(vocab, known["data"])
    common = {**known["model"], "src_vocab": src, "tgt_vocab": tgt, "optim": known["optim"],
              "label_smoothing": known["train"]["label_smoothing"],
              "clip_norm": known["train"]["clip_norm"]}
    usual = "joint" if kind == "flowseq" else "target"
    common["embeddings"] = known["model"]["embeddings"] or usual
    if common["embeddings"] == "joint" and src != tgt:
        raise RecipeError("model.embeddings is joint, so there is one vocabulary; give one size")
    return Sizes(**common) if kind == "transformer" else flowseq_sizes(known, common)


def flowseq_sizes(known, common):
    for section, keys in ONLY.items():
        for key, value in keys.items():
            if known[section][key] != value:
                raise RecipeError(f"{section}.{key}: PyTorch's side has {value} only")
    if any(block in known["prior"] for block in BLOCKS):
        raise RecipeError("prior: PyTorch's side has the usual blocks only")
    prior = known["prior"]
    multiple = known["data"]["length_multiple"]
    steps = steps_of(prior["layers"])
    return Sizes(**{**known["flowseq"], **common}, steps=steps, prior_heads=prior["heads"],
                 prior_hidden=prior["hidden"], prior_dropout=prior["dropout"],
                 shared=common["embeddings"] == "joint",
                 max_positions=-(-common["max_len"] // multiple) * multiple)
