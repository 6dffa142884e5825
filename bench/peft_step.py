"""One training run of transformers + PEFT, timed: the peer that loralab is measured against.

ViT-B/16 or L/16, LoRA of rank 16 on query, key, value and output of every block
from --first-block on, a 1x1 convolution as head, bilinear upsampling, cross
entropy, AdamW. Prints one line of JSON. --prepare writes what both sides start
from instead: backbone, batch, head and LoRA's A, all drawn from one seed, so
that the losses of the two can be compared digit by digit.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import time

SITES = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
CLASSES, RANK, ALPHA = 3, 16, 16
LR, DECAY = 1e-3, 1e-2
MODELS = {"b": (768, 12, 12), "l": (1024, 24, 16)}  # width, blocks, heads


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
    g = torch.Generator().manual_seed(2)
    start = {
        "pixel_values": torch.randn(args.batch, 3, cfg.image_size, cfg.image_size, generator=g),
        "labels": torch.randint(0, CLASSES, (args.batch, args.size // 16, args.size // 16), generator=g)
        .repeat_interleave(16, 1).repeat_interleave(16, 2).to(torch.uint8).contiguous(),
        "head.weight": torch.randn(CLASSES, cfg.hidden_size, generator=g) * 0.02,
        "head.bias": torch.zeros(CLASSES),
    }
    bound = cfg.hidden_size**-0.5  # kaiming_uniform(a=sqrt(5))
    for block in range(cfg.num_hidden_layers):
        for site in SITES:
            start[f"{block}.{site}.lora_A"] = (torch.rand(RANK, cfg.hidden_size, generator=g) * 2 - 1) * bound
    save_file(start, folder / "start.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="where --prepare puts, and a run finds, weights and batch")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first-block", type=int, default=0)
    parser.add_argument("--precision", choices=["fp32", "bf16", "autocast"], default="fp32",
                        help="bf16: model in bfloat16, LoRA in float32 (PEFT's default); autocast: weights stay float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", choices=sorted(MODELS), default="b")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--compile", action="store_true", help="under torch.compile")
    args = parser.parse_args()
    if args.prepare:
        return prepare(args.folder, args)

    import torch
    import torch.nn.functional as F
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import ViTModel

    # fp32 is fp32 on both sides: convolutions of CUDA use TF32 unless told.
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    device = torch.device(args.device)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    start = load_file(args.folder / "start.safetensors")
    backbone = ViTModel.from_pretrained(args.folder / "backbone", add_pooling_layer=False, dtype=dtype)
    depth = backbone.config.num_hidden_layers
    model = get_peft_model(backbone, LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=list(SITES.values()),
        layers_to_transform=list(range(args.first_block, depth)), layers_pattern="layers",
    ))
    named = dict(model.named_modules())
    for block in range(args.first_block, depth):
        for site, module in SITES.items():
            lora = named[f"base_model.model.layers.{block}.attention.{module}"]
            with torch.no_grad():
                lora.lora_A["default"].weight.copy_(start[f"{block}.{site}.lora_A"])
    model.to(device).train()
    head = torch.nn.Conv2d(backbone.config.hidden_size, CLASSES, 1).to(device)
    with torch.no_grad():
        head.weight.copy_(start["head.weight"][:, :, None, None])
        head.bias.copy_(start["head.bias"])
    params = [p for p in model.parameters() if p.requires_grad] + list(head.parameters())
    optimiser = torch.optim.AdamW(params, lr=LR, weight_decay=DECAY, fused=device.type == "cuda")
    pixels, labels = start["pixel_values"].to(device), start["labels"].long().to(device)
    size = pixels.shape[-1]
    grid = size // backbone.config.patch_size
    forward = torch.compile(model) if args.compile else model

    def sync():
        if device.type == "cuda":
            torch.cuda.synchronize()

    losses, millis, cpu, first = [], [], [], 0.0
    for step in range(args.warmup + args.steps):
        sync()
        t, c = time.perf_counter(), time.process_time()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "autocast"):
            tokens = forward(pixel_values=pixels).last_hidden_state[:, 1:]
            x = tokens.transpose(1, 2).reshape(len(pixels), -1, grid, grid)
            logits = head(x if args.precision == "autocast" else x.float())
        logits = F.interpolate(logits.float(), size=(size, size), mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        sync()
        elapsed = (time.perf_counter() - t) * 1e3
        if step == 0:
            first = process_start()
        if step >= args.warmup:
            millis.append(elapsed)
            cpu.append((time.process_time() - c) * 1e3)
    print(json.dumps({
        "side": "peft", "compiled": args.compile, "model": args.model, "size": size, "precision": args.precision, "first_block": args.first_block, "device": str(device),
        "trainable": sum(p.numel() for p in params),
        "ms_median": statistics.median(millis), "ms_min": min(millis), "ms": millis, "cpu_ms_min": min(cpu),
        "first_step_s": first,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_cuda_mb": torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0,
        "losses": losses,
    }))


if __name__ == "__main__":
    main()
