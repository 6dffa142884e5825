"""One training run of transformers + PEFT, timed: the peer that loralab is measured against.

ViT-S/16, B/16 or L/16, LoRA of rank 16 on query, key, value and output of every
block from --first-block on, a 1x1 convolution as head, bilinear upsampling, cross
entropy, AdamW. Prints one line of JSON for each batch size. --prepare writes what
both sides start from instead: backbone, batch, head and LoRA's A, all drawn from one
seed, so that the losses of the two can be compared digit by digit.

Where PEFT is not installed, LoRA is the dozen lines below, and the line says so.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import sys
import time

SITES = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
CLASSES, RANK, ALPHA = 3, 16, 16
LR, DECAY = 1e-3, 1e-2
MODELS = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16)}  # width, blocks, heads


def process_start():
    """Seconds since this process was started, import of torch included."""
    ticks = float(pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    return float(pathlib.Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def prepare(folder, args):
    import torch
    from safetensors.torch import save_file
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(1)
    width, blocks, heads = MODELS[args.model]
    model = ViTModel(ViTConfig(hidden_size=width, num_hidden_layers=blocks, num_attention_heads=heads,
                               intermediate_size=4 * width, image_size=args.size), add_pooling_layer=False)
    # Larger than the usual 0.02, so that attention is not flat and every path counts.
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2:
                p.normal_(0, 0.04)
            elif name.endswith("bias"):
                p.normal_(0, 0.02)
    model.save_pretrained(folder / "backbone")
    cfg = model.config
    batch = args.batch[0]
    g = torch.Generator().manual_seed(2)
    start = {
        "pixel_values": torch.randn(batch, 3, cfg.image_size, cfg.image_size, generator=g),
        "labels": torch.randint(0, CLASSES, (batch, args.size // 16, args.size // 16), generator=g)
        .repeat_interleave(16, 1).repeat_interleave(16, 2).to(torch.uint8).contiguous(),
        "head.weight": torch.randn(CLASSES, cfg.hidden_size, generator=g) * 0.02,
        "head.bias": torch.zeros(CLASSES),
    }
    bound = cfg.hidden_size**-0.5  # kaiming_uniform(a=sqrt(5))
    for block in range(cfg.num_hidden_layers):
        for site in SITES:
            start[f"{block}.{site}.lora_A"] = (torch.rand(RANK, cfg.hidden_size, generator=g) * 2 - 1) * bound
    save_file(start, folder / "start.safetensors")


def adapted(backbone, args, start):
    """The backbone with LoRA, and who made it so."""
    import torch

    blocks = range(args.first_block, backbone.config.num_hidden_layers)
    try:
        if args.lora == "own":
            raise ImportError
        from peft import LoraConfig, get_peft_model
    except ImportError:
        if args.lora == "peft":
            raise
        return own_lora(torch, backbone, blocks, start), "transformers, own LoRA"
    model = get_peft_model(backbone, LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=list(SITES.values()),
        layers_to_transform=list(blocks), layers_pattern="layers",
    ))
    named = dict(model.named_modules())
    with torch.no_grad():
        for block in blocks:
            for site, module in SITES.items():
                lora = named[f"base_model.model.layers.{block}.attention.{module}"]
                lora.lora_A["default"].weight.copy_(start[f"{block}.{site}.lora_A"])
    return model, "transformers + PEFT"


def own_lora(torch, backbone, blocks, start):
    """What PEFT does: A and B in fp32, x in fp32 before them, the sum in the type of the layer."""

    class LoRA(torch.nn.Module):
        def __init__(self, base, a):
            super().__init__()
            self.base = base
            self.a = torch.nn.Parameter(a.clone())
            self.b = torch.nn.Parameter(torch.zeros(base.out_features, RANK))

        def forward(self, x):
            y = self.base(x)
            low = torch.nn.functional.linear(torch.nn.functional.linear(x.to(self.a.dtype), self.a), self.b)
            return (y + ALPHA / RANK * low).to(y.dtype)

    backbone.requires_grad_(False)
    for block in blocks:
        attention = backbone.layers[block].attention
        for site, module in SITES.items():
            setattr(attention, module, LoRA(getattr(attention, module), start[f"{block}.{site}.lora_A"]))
    return backbone


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="where --prepare puts, and a run finds, weights and batch")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--batch", type=int, nargs="+", default=[8],
                        help="images in a batch, those of the folder again and again; several are timed one after another")
    parser.add_argument("--largest", action="store_true", help="then the largest batch that fits")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first-block", type=int, default=0)
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16", "autocast"], default="fp32",
                        help="bf16: model in bfloat16, LoRA in float32 (PEFT's default); autocast: weights stay float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", choices=sorted(MODELS), default="b")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--compile", action="store_true", help="under torch.compile")
    parser.add_argument("--lora", choices=["", "peft", "own"], default="", help="whose LoRA; PEFT's where there is one")
    parser.add_argument("--upload", choices=["once", "pinned"], default="once",
                        help="how a batch gets to the device: before the first step, or in each from pinned memory")
    parser.add_argument("--late", action="store_true", help="read no loss between the timed steps, and time them together")
    args = parser.parse_args()
    if args.prepare:
        return prepare(args.folder, args)

    import torch
    from safetensors.torch import load_file
    from transformers import ViTModel

    # fp32 is fp32 on both sides: convolutions of CUDA use TF32 unless told.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    start = load_file(args.folder / "start.safetensors")
    backbone = ViTModel.from_pretrained(args.folder / "backbone", add_pooling_layer=False, dtype=dtype,
                                        attn_implementation="sdpa")
    model, side = adapted(backbone, args, start)
    model.to(args.device).train()
    head = torch.nn.Conv2d(backbone.config.hidden_size, CLASSES, 1).to(args.device)
    forward = torch.compile(model, dynamic=False) if args.compile else model
    peaks = {}
    for batch in args.batch:
        try:
            result = train(torch, args, batch, start, model, forward, head)
        except torch.OutOfMemoryError:
            print(json.dumps({"side": side, "batch": batch, "exhausted": True}), flush=True)
            continue
        peaks[batch] = result["peak_cuda_mb"]
        print(json.dumps({"side": side} | result), flush=True)
    if args.largest:
        total = torch.cuda.get_device_properties(args.device).total_memory / 2**20

        def attempt(batch):
            try:
                return {"side": side} | train(torch, args, batch, start, model, forward, head)
            except torch.OutOfMemoryError:
                return None

        print(json.dumps({"side": side} | largest(peaks, total, attempt)), flush=True)


def largest(peaks, total, attempt):
    """The result of the largest batch that fits into total MB, from the peaks of smaller ones."""
    if not peaks:
        return {"exhausted": True}
    low, high = min(peaks), max(peaks)
    each = (peaks[high] - peaks[low]) / (high - low) if high > low else peaks[high] / high
    batch = int(high + (0.94 * total - peaks[high]) / max(each, 1e-3))
    for _ in range(5):
        tried = max(high, batch // 8 * 8)
        result = attempt(tried)
        if result:
            return result | {"largest": True}
        batch = int(tried * 0.92)
    return {"batch": tried, "exhausted": True}


def train(torch, args, batch, start, model, forward, head):
    """Times steps from the same weights, whatever was trained before."""
    import torch.nn.functional as F

    device = torch.device(args.device)
    cuda = device.type == "cuda"
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name or name.endswith(".b"):
                p.zero_()
        for name, p in model.named_parameters():
            if p.requires_grad and ("lora_A" in name or name.endswith(".a")):
                block = name.split("layers.")[1].split(".")[0]
                site = next(s for s, module in SITES.items() if f".{module}." in name)
                p.copy_(start[f"{block}.{site}.lora_A"])
        head.weight.copy_(start["head.weight"][:, :, None, None])
        head.bias.copy_(start["head.bias"])
    params = [p for p in model.parameters() if p.requires_grad] + list(head.parameters())
    optimiser = torch.optim.AdamW(params, lr=LR, weight_decay=DECAY, fused=cuda)

    def tiled(x):
        x = torch.cat([x] * (-(-batch // len(x))))[:batch]
        return x.pin_memory() if cuda else x

    host = tiled(start["pixel_values"]), tiled(start["labels"])

    def upload():
        return host[0].to(device, non_blocking=True), host[1].to(device, non_blocking=True).long()

    pixels, labels = upload()
    size = pixels.shape[-1]
    grid = size // model.config.patch_size

    def sync():
        if cuda:
            torch.cuda.synchronize()

    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    losses, millis, cpu, first = [], [], [], 0.0
    for step in range(args.warmup + args.steps):
        timed = step >= args.warmup
        if not (args.late and step > args.warmup):
            sync()
            t = time.perf_counter()
        c = time.process_time()
        optimiser.zero_grad(set_to_none=True)
        if args.upload == "pinned":
            pixels, labels = upload()
        with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "autocast"):
            tokens = forward(pixel_values=pixels).last_hidden_state[:, 1:]
            x = tokens.transpose(1, 2).reshape(len(pixels), -1, grid, grid)
            logits = head(x if args.precision == "autocast" else x.float())
        logits = F.interpolate(logits.float(), size=(size, size), mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach() if args.late else loss.item())
        if not args.late:
            sync()
        if step == 0:
            sync()
            first = process_start()
        if timed:
            millis.append((time.perf_counter() - t) * 1e3)
            cpu.append((time.process_time() - c) * 1e3)
    if args.late:
        losses = [x.item() for x in losses]
        sync()
        millis = [(time.perf_counter() - t) * 1e3 / args.steps]
    model.zero_grad(set_to_none=True)
    return {
        "compiled": args.compile, "model": args.model, "size": size, "batch": batch,
        "precision": args.precision, "first_block": args.first_block, "device": str(device),
        "trainable": sum(p.numel() for p in params),
        "ms_median": statistics.median(millis), "ms_min": min(millis), "ms": millis, "cpu_ms_min": min(cpu),
        "first_step_s": first,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_cuda_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else 0,
        "losses": losses,
    }


if __name__ == "__main__":
    main()
