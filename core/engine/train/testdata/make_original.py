"""Makes the fixtures that hold core/engine/train against the original project.

    LORALAB_UPDATE=1 go test -tags=netgo,osusergo -run TestOriginal ./core/engine/train
    venv/bin/python core/engine/train/testdata/make_original.py

Run from the root of the repository, with the environment of
core/engine/vit/testdata/requirements.txt. The first command writes
core/engine/train/testdata/original/data.safetensors, which the second reads: images
[N,3,48,32] and labels [N,48,32] as bytes, order [epochs,N] as int64.

This is our own code, written from the original's formulas. It trains the
backbone core/engine/vit/testdata/vit for 20 updates in float64 and writes

    VARIANT.safetensors      adapters and head before the first update, named as
                             starting values are
    VARIANT_WAY.safetensors  losses [20] of each update's batch, before it; and
                             the values after the last update, named as in
                             checkpoints, of the backbone a part: see STORED

It prints how far float32 ends from float64: what the engine, which
computes in float32, cannot be asked to better.
"""

import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import ViTModel, logging

ROOT = pathlib.Path(__file__).resolve().parents[4]
HERE = pathlib.Path(__file__).resolve().parent / "original"

DIM, CLASSES, PATCH = 24, 3, 8
EPOCHS, BATCH = 5, 3
WARMUP, DECAY = 0.05, 0.2  # of all updates
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPS = 1e-6

STORED = (
    "embeddings.cls_token", "embeddings.position_embeddings", "encoder.layer.2.attention.attention.",
    "encoder.layer.2.layernorm_before.", "layernorm.",
)


class LoRA(nn.Module):
    """base(x) + alpha/r B A x"""

    places = ("query", "value")

    def __init__(self, base, rank=4, alpha=2):
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.lora_A, self.lora_B = pair(rank, DIM)

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.lora_A.T @ self.lora_B.T)


class Serial(nn.Module):
    """base(x + B A x), a pair for each of q, k and v, no scale."""

    places = ("query", "key", "value")

    def __init__(self, base, rank=4):
        super().__init__()
        self.base = base
        self.serial_A, self.serial_B = pair(rank, DIM)

    def forward(self, x):
        return self.base(x + x @ self.serial_A.T @ self.serial_B.T)


class Localized(nn.Module):
    """Slice j of the output gets alpha/r sum_i B_ij A_ij of slice i of the input."""

    places = ("query", "value")

    def __init__(self, base, k=4, rank=2, alpha=8):
        super().__init__()
        self.base, self.k, self.scale = base, k, alpha / rank
        pairs = [[pair(rank, DIM // k) for _ in range(k)] for _ in range(k)]
        for n, name in enumerate(("localized_A", "localized_B")):
            setattr(self, name, nn.Parameter(torch.stack([torch.stack([p[n].detach() for p in row]) for row in pairs])))

    def forward(self, x):
        parts, out = x.chunk(self.k, -1), []
        for j in range(self.k):
            out.append(sum(parts[i] @ self.localized_A[i, j].T @ self.localized_B[i, j].T for i in range(self.k)))
        return self.base(x) + self.scale * torch.cat(out, -1)


def pair(rank, dim):
    """A Kaiming uniform with a = sqrt 5, B zero."""
    a = nn.Parameter(torch.empty(rank, dim))
    nn.init.kaiming_uniform_(a, a=math.sqrt(5))
    return a, nn.Parameter(torch.zeros(dim, rank))


class Head(nn.Module):
    """Convolution, ReLU, convolution; no norm, no dropout."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(DIM, DIM // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(DIM // 2, CLASSES, 1)

    def forward(self, x):
        return self.conv2(F.relu(self.conv1(x)))


def loss_of(logits, labels):
    """Log cosh of 1 - dice, classes weighted by the inverse of their pixels in the batch."""
    p = logits.softmax(1)
    y = F.one_hot(labels, CLASSES).permute(0, 3, 1, 2).to(p)
    n = y.sum((0, 2, 3))
    dice = (2 * (p * y).sum((0, 2, 3)) + EPS) / ((p + y).sum((0, 2, 3)) + EPS)
    w = 1 / (n + EPS)
    return torch.log(torch.cosh(1 - (w / w.sum() * dice).sum()))


def trapezoid(s, total):
    warm, end = int(WARMUP * total), int(DECAY * total)
    if s < warm:
        return s / max(1, warm)
    if s < total - end:
        return 1.0
    return max(0.0, (total - s) / max(1, end))


# In memory, transformers 5 names modules otherwise than the files it writes.
MODULES = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
RENAMED = [
    ("attention.q_proj", "attention.attention.query"), ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"), ("attention.o_proj", "attention.output.dense"),
    ("layers.", "encoder.layer."), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
    (".base.", "."),
]


def build(adapter, seed):
    torch.manual_seed(seed)
    vit = ViTModel.from_pretrained(ROOT / "core/engine/vit/testdata/vit", add_pooling_layer=False, attn_implementation="eager")
    adapters = {}
    for i, block in enumerate(vit.layers):
        for place in adapter.places:
            layer = adapter(getattr(block.attention, MODULES[place]))
            setattr(block.attention, MODULES[place], layer)
            for name in vars(layer)["_parameters"]:
                adapters[f"adapter.blocks.{i}.{place}.{name}"] = getattr(layer, name)
    head = Head()
    known = {id(p) for p in adapters.values()}
    backbone = {}
    for name, p in vit.named_parameters():
        if id(p) not in known:
            for old, new in RENAMED:
                name = name.replace(old, new)
            backbone[name] = p
    return vit, head, backbone, adapters


def train(adapter, dtype, data, *, lr, lr_head, decay, kind=torch.optim.Adam, unfrozen=False, unfreeze=0, forgets=False):
    """unfreeze > 0: the head alone trains before this epoch, then all.

    forgets: as the original goes about it. It replaces the optimiser at the
    beginning and at the unfreezing, each time with the default decay, and the
    schedule goes on to move the rates of the first one, which nobody uses."""
    vit, head, backbone, adapters = build(adapter, 11)
    heads = {f"head.{n}": p for n, p in head.named_parameters()}
    start = {n: p.detach().clone() for n, p in (adapters | heads).items()}
    for m in (vit, head):
        m.to(dtype).train()
    if not unfrozen:
        for p in backbone.values():
            p.requires_grad_(False)
    rest = [p for p in vit.parameters() if p.requires_grad]
    rates = (lr, lr_head)

    def optimiser(**kw):
        return kind([{"params": rest, "lr": lr}, {"params": list(heads.values()), "lr": lr_head}], lr=lr, **kw)

    opt = optimiser() if forgets else optimiser(weight_decay=decay)
    images = data["images"].to(dtype) / 255
    images = (images - torch.tensor(MEAN, dtype=dtype).view(3, 1, 1)) / torch.tensor(STD, dtype=dtype).view(3, 1, 1)
    total = EPOCHS * math.ceil(len(images) / BATCH)
    losses, step = [], 0
    for epoch in range(EPOCHS):
        if unfreeze:
            for p in rest:
                p.requires_grad_(epoch >= unfreeze)
            if forgets and epoch == unfreeze:
                opt = optimiser()
        for batch in data["order"][epoch].split(BATCH):
            for group, rate in zip(opt.param_groups, rates):
                group["lr"] = rate * (1 if forgets else trapezoid(max(step - 1, 0), total))
            x = vit(pixel_values=images[batch]).last_hidden_state[:, 1:]
            h, w = images.shape[2] // PATCH, images.shape[3] // PATCH
            logits = head(x.transpose(1, 2).reshape(len(batch), DIM, h, w))
            logits = F.interpolate(logits, scale_factor=PATCH, mode="bilinear", align_corners=False)
            loss = loss_of(logits, data["labels"][batch].long())
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
            step += 1
    final = adapters | heads
    if unfrozen:
        final = final | fused(backbone)
    return start, losses, {n: p.detach() for n, p in final.items()}


def fused(backbone):
    """The backbone's tensors as core/engine/vit holds them: q, k and v are one matrix,
    patches are rows."""
    out = {}
    for name, p in backbone.items():
        if ".attention.attention." in name:
            if ".query." in name:
                parts = [backbone[name.replace("query", place)] for place in MODULES]
                out["backbone." + name.replace("query", "qkv")] = torch.cat(parts)
        else:
            out["backbone." + name] = p.flatten(1) if "projection.weight" in name else p
    return out


CASES = {}
for _name, _adapter, _lr in (("lora", LoRA, 1e-2), ("serial", Serial, 1e-2), ("localized", Localized, 1e-3)):
    CASES[f"{_name}_frozen"] = (_adapter, dict(lr=_lr, lr_head=1e-2, decay=1e-4))
    CASES[f"{_name}_unfrozen"] = (_adapter, dict(lr=1e-3, lr_head=1e-2, decay=1e-4, unfrozen=True))
    CASES[f"{_name}_unfreezing"] = (_adapter, dict(lr=1e-3, lr_head=1e-2, decay=1e-4, unfrozen=True, unfreeze=2))
    CASES[f"{_name}_forgetting"] = (_adapter, dict(lr=3e-4, lr_head=1e-2, decay=1e-2, unfrozen=True, unfreeze=2, forgets=True))
CASES["lora_adamw"] = (LoRA, dict(lr=1e-2, lr_head=1e-2, decay=1e-2, kind=torch.optim.AdamW))


def main():
    data = load_file(HERE / "data.safetensors")
    for name, (adapter, settings) in CASES.items():
        start, losses, final = train(adapter, torch.float64, data, **settings)
        _, losses32, final32 = train(adapter, torch.float32, data, **settings)
        apart = max(abs(a - b) for a, b in zip(losses, losses32))
        moved = {n: (final[n] - final32[n].double()).abs() for n in final}
        worst = max(moved, key=lambda n: moved[n].max().item())
        print(f"{name:22} loss {losses[0]:.4f} -> {losses[-1]:.4f}; float32 from float64: "
              f"losses {apart:.1e}, weights {moved[worst].max().item():.1e} ({worst})")
        save(name.split("_")[0], {n.removeprefix("adapter.").removeprefix("head."): t for n, t in start.items()})
        save(name, {"losses": torch.tensor(losses)} | {
            n: t for n, t in final.items()
            if not n.startswith("backbone.") or n.removeprefix("backbone.").startswith(STORED)
        })


def save(name, tensors):
    path = HERE / f"{name}.safetensors"
    save_file({n: t.float().contiguous().clone() for n, t in tensors.items()}, path)
    path.chmod(0o644)


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    main()
