"""Makes the parity fixtures of core/engine/vit, core/engine/adapter and core/engine/loss.

    python3.11 -m venv venv && venv/bin/pip install -r core/engine/vit/testdata/requirements.txt
    venv/bin/python core/engine/vit/testdata/make_fixtures.py

Run from the root of the repository. Everything is drawn from fixed seeds, so a
second run writes the same values. Weights and inputs are float32; expected
values are computed by the reference implementation in float64 and stored as
float32, so that a test measures its own rounding and not the reference's.

What is written, each folder with its own case:

    core/engine/vit/testdata/vit             ViTModel, image 48x32 (grid 6x4 stored), 3 heads, 5 blocks
    core/engine/vit/testdata/vit_resized     ViTModel, grid 5x5 stored, 2 blocks, run at 48x32
    core/engine/vit/testdata/dinov2          Dinov2Model, grid 5x5 stored, run at 70x42
    core/engine/vit/testdata/deit            DeiTModel, with the distillation token, 2 blocks, grid 5x5 stored, run at 6x4
    core/engine/vit/testdata/registers       Dinov2WithRegistersModel, 4 registers, 2 blocks, grid 5x5 run at 6x3
    core/engine/adapter/testdata/peft_lora   PEFT LoRA on query and value of vit: three steps of AdamW
    core/engine/loss/testdata                every loss with its gradient

A model folder holds config.json and model.safetensors as Hugging Face writes
them, and case.safetensors: pixel_values [N,3,H,W], hidden.K [N,T,D] after K
blocks (0: the embeddings), last_hidden_state [N,T,D] after the final LayerNorm,
weights [N,T,D], and grad.NAME for the loss sum(last_hidden_state * weights),
NAME as in model.safetensors.

dinov2/drop_path.safetensors is one training step of that model with stochastic
depth by timm's formula: pixel_values, weights, last_hidden_state and grad.NAME as
above, and factors [DEPTH, 2, N], those of attention and MLP.
"""

import json
import pathlib

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import nn
from transformers import DeiTConfig, DeiTModel, Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel, ViTConfig, ViTModel

ROOT = pathlib.Path(__file__).resolve().parents[4]
VIT = ROOT / "core/engine/vit/testdata"
ADAPTER = ROOT / "core/engine/adapter/testdata"
LOSS = ROOT / "core/engine/loss/testdata"

DIM, DEPTH, HEADS, MLP = 24, 5, 3, 64


def save(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
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
            if "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.3 * n)
            elif "lambda" in name:
                p.copy_(0.6 + 0.3 * n)
            elif p.dim() <= 1 or "embeddings" in name and p.dim() == 3:
                p.copy_(0.4 * n)
            else:
                p.copy_(n * 1.2 / p[0].numel() ** 0.5)


# In memory, transformers 5 names modules otherwise than the files it writes.
RENAMED = [
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
]
RENAMED_VIT = [("layers.", "encoder.layer."), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense")]


def file_name(name, family):
    for old, new in RENAMED + (RENAMED_VIT if family in ("vit", "deit") else []):
        name = name.replace(old, new)
    return name


def blocks(model):
    return model.layers if hasattr(model, "layers") else model.encoder.layer


def forward(model, pixels, **kw):
    """Returns the hidden states after 0..DEPTH blocks and the normalised last."""
    hidden, hooks = [], []
    for i, block in enumerate(blocks(model)):
        if i == 0:
            hooks.append(block.register_forward_pre_hook(lambda _, a: hidden.append(a[0])))
        hooks.append(block.register_forward_hook(lambda _m, _a, out: hidden.append(out)))
    last = model(pixel_values=pixels, **kw).last_hidden_state
    for h in hooks:
        h.remove()
    return hidden, last


def model_case(name, model, family, height, width, seed, **kw):
    randomise(model, seed)
    folder = VIT / name
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    model = model.double().eval()
    g = torch.Generator().manual_seed(seed + 1)
    pixels = torch.randn(2, 3, height, width, generator=g)
    hidden, last = forward(model, pixels.double(), **kw)
    weights = torch.randn(last.shape, generator=g)
    (last * weights.double()).sum().backward()
    wanted = [
        "attention.attention.query.weight", "attention.attention.value.bias", "attention.output.dense.weight",
        "intermediate.dense.weight", "mlp.fc1.weight", "layernorm_before.weight", "norm1.weight",
        "layer_scale1.lambda1",
    ]
    grads = {}
    for n, p in model.named_parameters():
        n = file_name(n, family)
        inner = any(n == f"encoder.layer.{b}.{w}" for b in (0, 2) for w in wanted)
        if inner or n.startswith(("embeddings.c", "embeddings.d", "embeddings.p", "embeddings.r", "layernorm")):
            grads[f"grad.{n}"] = p.grad
    save(folder / "case.safetensors", {
        "pixel_values": pixels, "hidden.0": hidden[0], f"hidden.{len(hidden) - 2}": hidden[-2],
        "last_hidden_state": last, "weights": weights, **grads,
    })


class DropPath(nn.Module):
    """timm.layers.drop_path with scale_by_keep."""

    def __init__(self, p, factors):
        super().__init__()
        self.p, self.factors = p, factors

    def forward(self, x):
        keep = 1 - self.p
        factor = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        factor.div_(keep)
        self.factors.append(factor.flatten())
        return x * factor


def drop_path_case(rate, seed):
    model = Dinov2Model.from_pretrained(VIT / "dinov2").double().train()
    factors = []
    for block, p in zip(blocks(model), torch.linspace(0, rate, DEPTH).tolist()):
        block.drop_path = DropPath(p, factors)
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randn(4, 3, 42, 42, generator=g)
    torch.manual_seed(seed)
    last = model(pixel_values=pixels.double()).last_hidden_state
    weights = torch.randn(last.shape, generator=g)
    (last * weights.double()).sum().backward()
    wanted = ("attention.attention.value.weight", "mlp.fc2.weight", "norm2.weight", "layer_scale1.lambda1")
    grads = {f"grad.{n}": p.grad for n, p in ((file_name(n, "dinov2"), p) for n, p in model.named_parameters()) if n.endswith(wanted)}
    save(VIT / "dinov2/drop_path.safetensors", {
        "pixel_values": pixels, "weights": weights, "last_hidden_state": last,
        "factors": torch.stack(factors).reshape(DEPTH, 2, -1), **grads,
    })


def vit(image, depth=DEPTH):
    return ViTModel(ViTConfig(
        hidden_size=DIM, num_hidden_layers=depth, num_attention_heads=HEADS, intermediate_size=MLP,
        image_size=image, patch_size=8, attn_implementation="sdpa",
    ), add_pooling_layer=image == (48, 32))


def models():
    model_case("vit", vit((48, 32)), "vit", 48, 32, 100)
    model_case("vit_resized", vit((40, 40), depth=2), "vit", 48, 32, 200, interpolate_pos_encoding=True)
    model_case("dinov2", Dinov2Model(Dinov2Config(
        hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, mlp_ratio=3,
        image_size=70, patch_size=14, attn_implementation="sdpa",
    )), "dinov2", 70, 42, 300)
    model_case("registers", Dinov2WithRegistersModel(Dinov2WithRegistersConfig(
        hidden_size=DIM, num_hidden_layers=2, num_attention_heads=HEADS, mlp_ratio=2, num_register_tokens=4,
        image_size=40, patch_size=8, attn_implementation="sdpa",
    )), "dinov2", 48, 24, 350)
    model_case("deit", DeiTModel(DeiTConfig(
        hidden_size=DIM, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=MLP,
        image_size=40, patch_size=8, attn_implementation="sdpa",
    ), add_pooling_layer=False), "deit", 48, 32, 375, interpolate_pos_encoding=True)


def peft_lora():
    """Three steps of AdamW on LoRA's A and B, and on nothing else.

    The backbone is core/engine/vit/testdata/vit. The loss is mean((y - target)^2) over
    the normalised last hidden state. init.I.SITE.lora_A and _B are the values
    at the start, grad.* the gradients of the first step, final.* the values
    after three; losses [4] are those before each step and after the last.
    output.0 and output.3 are the hidden states before and after.
    """
    model = vit((48, 32))
    randomise(model, 100)
    rank, alpha = 4, 8
    lr, decay = 1e-2, 1e-2
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]))
    model = model.double().eval()
    g = torch.Generator().manual_seed(101)
    pixels = torch.randn(2, 3, 48, 32, generator=g)
    params = {}
    for n, p in sorted(model.named_parameters()):
        if not p.requires_grad:
            continue
        block = int(n.split("layers.")[1].split(".")[0])
        site = {"q_proj": "query", "v_proj": "value"}[n.split("attention.")[1].split(".")[0]]
        which = "lora_A" if "lora_A" in n else "lora_B"
        params[f"{block}.{site}.{which}"] = p
        with torch.no_grad():
            p.copy_(0.2 * torch.randn(p.shape, generator=g))
    assert len(params) == DEPTH * 4
    out = {f"init.{k}": p.detach().clone() for k, p in params.items()}
    out["pixel_values"] = pixels
    target = torch.randn(2, 25, DIM, generator=g)
    out["target"] = target
    opt = torch.optim.AdamW(params.values(), lr=lr, weight_decay=decay, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for step in range(4):
        y = model(pixel_values=pixels.double()).last_hidden_state
        loss = F.mse_loss(y, target.double())
        losses.append(loss.item())
        if step in (0, 3):
            out[f"output.{step}"] = y
        if step == 3:
            break
        opt.zero_grad()
        loss.backward()
        if step == 0:
            out.update({f"grad.{k}": p.grad.clone() for k, p in params.items()})
        opt.step()
    out["losses"] = torch.tensor(losses, dtype=torch.float64)
    out.update({f"final.{k}": p for k, p in params.items()})
    folder = ADAPTER / "peft_lora"
    save(folder / "case.safetensors", out)
    (folder / "case.json").write_text(json.dumps({
        "rank": rank, "alpha": alpha, "targets": ["query", "value"], "backbone": "core/engine/vit/testdata/vit",
        "lr": lr, "weight_decay": decay, "betas": [0.9, 0.999], "eps": 1e-8, "steps": 3,
    }, indent=2) + "\n")


IGNORE = 255


def soft_dice(logits, labels, eps=1e-6):
    """Per class (2I+eps)/(S+eps) over the whole batch, ignored pixels left out."""
    p = logits.softmax(1)
    keep = labels != IGNORE
    onehot = F.one_hot(torch.where(keep, labels, 0), logits.shape[1]).permute(0, 3, 1, 2).to(p)
    onehot, p = onehot * keep[:, None], p * keep[:, None]
    inter = (p * onehot).sum((0, 2, 3))
    total = (p + onehot).sum((0, 2, 3))
    return (2 * inter + eps) / (total + eps), onehot.sum((0, 2, 3)) > 0


def loss_case():
    """Losses on logits of their own, class 3 of 4 absent from the labels."""
    g = torch.Generator().manual_seed(7)
    logits = torch.randn(2, 4, 8, 6, generator=g)
    labels = torch.randint(0, 3, (2, 8, 6), generator=g)
    labels[0, :2] = IGNORE
    out = {"logits": logits, "labels": labels.to(torch.uint8)}
    x = logits.double().requires_grad_()
    loss = F.cross_entropy(x, labels, ignore_index=IGNORE)
    loss.backward()
    out |= {"cross_entropy": loss, "grad.cross_entropy": x.grad.clone()}
    for name in ("dice_present", "dice_all"):
        x.grad = None
        dice, present = soft_dice(x, labels)
        loss = 1 - (dice[present] if name == "dice_present" else dice).mean()
        loss.backward()
        out |= {"dice": dice, name: loss, f"grad.{name}": x.grad.clone()}
    weights = torch.tensor([0.5, 2.0, 1.25, 3.0], dtype=torch.float64)
    onehot_all = F.one_hot(torch.where(labels == IGNORE, 0, labels), 4).permute(0, 3, 1, 2).double()

    def focal(x, gamma=2.0):
        logp = x.log_softmax(1)
        keep = (labels != IGNORE).double()
        logp = (logp * onehot_all).sum(1)
        w = weights[torch.where(labels == IGNORE, 0, labels)] * keep
        return (-((1 - logp.exp()) ** gamma) * logp * w).sum() / w.sum()

    def log_cosh_dice(x):
        dice, _ = soft_dice(x, labels)
        n = torch.stack([(labels == c).sum() for c in range(4)]).double()
        w = 1 / (n + 1e-6)
        return torch.log(torch.cosh(1 - (w / w.sum() * dice).sum()))

    def lovasz(x):
        """Berman et al., Algorithm 1, over the pixels that count."""
        keep = labels.reshape(-1) != IGNORE
        p = x.softmax(1).permute(0, 2, 3, 1).reshape(-1, 4)[keep]
        y = labels.reshape(-1)[keep]
        losses = []
        for c in range(4):
            on = (y == c).double()
            if on.sum() == 0:
                continue
            errors, order = torch.sort((on - p[:, c]).abs(), descending=True)
            on = on[order]
            jaccard = 1 - (on.sum() - on.cumsum(0)) / (on.sum() + (1 - on).cumsum(0))
            jaccard[1:] = jaccard[1:] - jaccard[:-1].clone()
            losses.append((errors * jaccard).sum())
        return torch.stack(losses).mean()

    for name, fn in {
        "cross_entropy_weighted": lambda x: F.cross_entropy(x, labels, weights, ignore_index=IGNORE, label_smoothing=0.1),
        "focal": focal, "log_cosh_dice": log_cosh_dice, "lovasz": lovasz,
    }.items():
        x.grad = None
        loss = fn(x)
        loss.backward()
        out |= {name: loss, f"grad.{name}": x.grad.clone()}
    save(LOSS / "losses.safetensors", out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models()
    drop_path_case(0.5, 320)
    peft_lora()
    loss_case()
