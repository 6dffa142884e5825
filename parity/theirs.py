"""What transformers and PEFT make of what loralab wrote; see parity_test.go.

    theirs.py DIR

DIR/cases.json lists directories below DIR. In each lie

    peft/    an export for PEFT           merged/   one for transformers
    backbone the path of the plain model  case.safetensors  pixels, and the weights
                                          of a linear loss over the tokens

This adds theirs.safetensors (tokens, gradients of PEFT's parameters, tokens of
the merged model), made/ (an adapter of the same settings that PEFT made, with
random weights, and saved) and theirs.json (differences and complaints).
"""

import json
import pathlib
import sys
import traceback
import warnings

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForImageClassification, logging

logging.set_verbosity_error()
torch.set_num_threads(2)


def tokens(model, pixels):
    return model(pixels).last_hidden_state


def relative(a, b):
    """The largest |a − b| over the largest |b|."""
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()


def plain(name):
    """The name of a parameter in the file, which has no name of an adapter, and
    of DoRA's magnitude not that of the parameter in its module."""
    return name.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def move(model, pixels, seed):
    """Makes every parameter of the adapter random, so that none is at a start
    that hides what it does, but moves the tokens by less than 2."""
    start = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    before, size = tokens(model, pixels).detach(), 0.1
    while True:
        g = torch.Generator().manual_seed(seed)
        for name, p in model.named_parameters():
            if name in start:
                p.data = start[name] + size * torch.randn(p.shape, generator=g)
        if (tokens(model, pixels) - before).abs().max() < 2:
            return
        size /= 2


def case(dir, seed):
    said = {}
    given = load_file(dir / "case.safetensors")
    pixels, weights = given["pixels"], given["weights"]
    backbone = (dir / "backbone").read_text()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(AutoModel.from_pretrained(backbone), dir / "peft").eval()
        said["warnings"] = [str(w.message) for w in caught if "key" in str(w.message) or "adapter" in str(w.message)]
    file = load_file(dir / "peft" / "adapter_model.safetensors")
    loaded = set_peft_model_state_dict(model, file)
    said["unexpected"] = list(loaded.unexpected_keys)
    own = {plain(n) for n, _ in model.named_parameters() if ".default" in n}
    said["missing"] = sorted(own - set(file))
    model.base_model.set_requires_grad("default") if hasattr(model.base_model, "set_requires_grad") else None

    out = {"tokens": tokens(model, pixels).detach().contiguous()}
    params = {plain(n): p for n, p in model.named_parameters() if plain(n) in file and p.is_floating_point()}
    for p in params.values():
        p.requires_grad_(True)
    (tokens(model, pixels) * weights).sum().backward()
    for name, p in params.items():
        if p.grad is not None:
            out["grad." + name] = p.grad.contiguous()

    theirs = model.merge_and_unload(safe_merge=True)
    if (dir / "merged").exists():
        ours = AutoModel.from_pretrained(dir / "merged").eval()
        out["merged_tokens"] = tokens(ours, pixels).detach().contiguous()
        a, b = ours.state_dict(), theirs.state_dict()
        said["merged_names"] = sorted(set(a) ^ set(b))
        said["merged_weights"] = max(relative(a[n], b[n]) for n in b if n in a and b[n].is_floating_point())
    save_file(out, dir / "theirs.safetensors")

    config = PeftConfig.from_pretrained(dir / "peft")
    config.inference_mode = False
    made = get_peft_model(AutoModel.from_pretrained(backbone), config).eval()
    move(made, pixels, seed)
    made.save_pretrained(dir / "made")
    save_file({"tokens": tokens(made, pixels).detach().contiguous()}, dir / "made.safetensors")
    return said


def patterns(dir, backbone, pixels):
    """An adapter of a model with a task, whose modules and ranks are chosen in
    all the ways that PEFT has."""
    model = AutoModelForImageClassification.from_pretrained(backbone)
    config = LoraConfig(
        r=3, lora_alpha=6, target_modules=["q_proj", "fc1"], exclude_modules=["layers.4.mlp.fc1"],
        layers_to_transform=[0, 4], rank_pattern={"fc1": 2, "layers.4.attention.q_proj": 5},
        alpha_pattern={"q_proj": 9}, modules_to_save=["classifier"],
    )
    made = get_peft_model(model, config).eval()
    inner = made.base_model.model.vit
    for p in (p for n, p in made.named_parameters() if p.requires_grad and "lora" in n):
        p.data = 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    made.save_pretrained(dir)
    save_file({"tokens": tokens(inner, pixels).detach().contiguous()}, str(dir) + ".safetensors")


def main(root):
    for seed, name in enumerate(json.loads((root / "cases.json").read_text())):
        try:
            said = case(root / name, seed)
        except Exception:
            said = {"error": traceback.format_exc()}
        (root / name / "theirs.json").write_text(json.dumps(said))
        if seed == 0:
            pixels = load_file(root / name / "case.safetensors")["pixels"]
            patterns(root / "patterns", (root / name / "backbone").read_text(), pixels)


main(pathlib.Path(sys.argv[1]))
