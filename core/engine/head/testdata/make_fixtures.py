"""Makes the parity fixtures of core/engine/head.

    python3.11 -m venv venv && venv/bin/pip install -r core/engine/vit/testdata/requirements.txt
    venv/bin/python core/engine/head/testdata/make_fixtures.py

Run from the root of the repository. Everything is drawn from fixed seeds, so a
second run writes the same values. Weights and inputs are float32; expected
values are computed by modules of PyTorch in float64 and stored as float32, so
that a test measures its own rounding and not the reference's.

A file holds, of one head in training and without dropout: features [N,T,D] of
the patches row by row, labels [N,H,W] with 255 ignored, init.NAME, logits
[N,C,H,W], cross_entropy, grad.features, grad.NAME, after.NAME of what training
moves without a gradient, and logits_eval, in evaluation.
"""

import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent

DIM, IGNORE = 24, 255


def save(path, tensors):
    out = {}
    for name, t in tensors.items():
        t = t.detach()
        if t.dtype == torch.float64:
            t = t.float()
        out[name] = t.contiguous().clone()
    save_file(out, path)
    path.chmod(0o644)


def randomise(model, seed):
    """Gives every parameter values that matter: nothing zero, nothing one."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            n = torch.randn(p.shape, generator=g)
            if "norm" in name and name.endswith("weight") or name == "scores.weight":
                p.copy_(1 + 0.3 * n)
            elif name == "class_tokens":
                p.copy_(2 * n)  # apart from each other, or a LayerNorm over classes magnifies rounding
            elif p.dim() <= 1:
                p.copy_(0.4 * n)
            else:
                p.copy_(n * 1.2 / p[0].numel() ** 0.5)


def case(name, head, seed, batch=2, grid=(6, 4), size=(24, 16), classes=3):
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, grid[0] * grid[1], DIM, generator=g)
    # Smooth labels with an ignored border; class 2 is absent from the second image.
    labels = torch.randint(0, classes, (batch, *grid), generator=g)
    if batch > 1:
        labels[1][labels[1] == 2] = 1
    labels = labels.repeat_interleave(size[0] // grid[0], 1).repeat_interleave(size[1] // grid[1], 2)
    labels[:, :, 7:9] = IGNORE
    randomise(head, seed)
    out = {f"init.{n}": p.detach().clone() for n, p in head.state_dict().items() if "num_batches" not in n}
    head = head.double().train()

    def scores(x):
        return F.interpolate(head(x, grid), size=size, mode="bilinear", align_corners=False)

    x = features.double().requires_grad_()
    logits = scores(x)
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORE)
    loss.backward()
    out |= {f"grad.{n}": p.grad for n, p in head.named_parameters()}
    out |= {f"after.{n}": b for n, b in head.named_buffers() if "num_batches" not in n}
    out |= {"grad.features": x.grad, "features": features, "labels": labels.to(torch.uint8), "logits": logits,
            "cross_entropy": loss}
    with torch.no_grad():
        head.eval()
        out["logits_eval"] = scores(x)
    save(HERE / f"{name}.safetensors", out)


def image(x, grid):
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *grid)


class Conv(nn.Module):
    def __init__(self, norm, hidden=DIM // 2, classes=3):
        super().__init__()
        self.conv1 = nn.Conv2d(DIM, hidden, 3, padding=1)
        self.norm = nn.BatchNorm2d(hidden) if norm else None
        self.conv2 = nn.Conv2d(hidden, classes, 1)

    def forward(self, x, grid):
        x = self.conv1(image(x, grid))
        if self.norm is not None:
            x = self.norm(x)
        return self.conv2(F.relu(x))


class Linear(nn.Module):
    """With norm the linear probe of DINOv2, whose BNHead has SyncBatchNorm: on one device that is BatchNorm."""

    def __init__(self, norm=False, classes=3):
        super().__init__()
        self.norm = nn.BatchNorm2d(DIM) if norm else nn.Identity()
        self.classifier = nn.Conv2d(DIM, classes, 1)

    def forward(self, x, grid):
        return self.classifier(self.norm(image(x, grid)))


class Stage(nn.Module):
    def __init__(self, dim, hidden, norm):
        super().__init__()
        self.conv = nn.Conv2d(dim, hidden, 3, padding=1)
        self.norm = nn.BatchNorm2d(hidden) if norm else nn.Identity()

    def forward(self, x):
        return F.interpolate(F.relu(self.norm(self.conv(x))), scale_factor=2, mode="bilinear", align_corners=False)


class SETRPUP(nn.Module):
    def __init__(self, stages, hidden, norm, classes=3):
        super().__init__()
        self.stages = nn.ModuleList(Stage(hidden if i else DIM, hidden, norm) for i in range(stages))
        self.classifier = nn.Conv2d(hidden, classes, 1)

    def forward(self, x, grid):
        x = image(x, grid)
        for stage in self.stages:
            x = stage(x)
        return self.classifier(x)


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (y.reshape(n, t, self.heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).chunk(3, -1))
        y = ((q @ k.transpose(-1, -2)) / (d // self.heads) ** 0.5).softmax(-1) @ v
        x = x + self.output(y.transpose(1, 2).reshape(n, t, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Segmenter(nn.Module):
    """Strudel et al. 2021, written from the formulas."""

    def __init__(self, layers, heads, width, classes=3):
        super().__init__()
        self.project = nn.Linear(DIM, width)
        self.class_tokens = nn.Parameter(torch.empty(classes, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.patches, self.classes = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.scores = nn.LayerNorm(classes)

    def forward(self, x, grid):
        patches = x.shape[1]
        x = torch.cat([self.project(x), self.class_tokens.expand(x.shape[0], -1, -1)], 1)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        p, c = F.normalize(self.patches(x[:, :patches]), dim=-1), F.normalize(self.classes(x[:, patches:]), dim=-1)
        return image(self.scores(p @ c.transpose(1, 2)), grid)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    case("conv", Conv(False), 400)
    case("conv_norm", Conv(True), 500)
    case("linear", Linear(), 600)
    case("linear_norm", Linear(True), 610)
    case("segmenter", Segmenter(2, 2, 16), 700)
    case("segmenter_two", Segmenter(1, 3, 24, classes=2), 731, batch=1, classes=2)
    case("segmenter_150", Segmenter(1, 1, 8, classes=150), 720, grid=(2, 3), size=(8, 12), classes=150)
    case("setr_pup", SETRPUP(2, 6, True), 800)
    case("setr_pup_plain", SETRPUP(1, 5, False, classes=2), 810, batch=1, grid=(3, 5), size=(9, 20), classes=2)
