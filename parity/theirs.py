"""What transformers and PEFT make of what loralab wrote; see parity_test.go.

    theirs.py DIR

reads "cases" and "again" from its standard input, and answers "done".

Of cases, DIR/cases.json lists directories below DIR. In each lie

    peft/    an export for PEFT           merged/   one for transformers
    backbone the path of the plain model  case.safetensors  pixels, and the weights
                                          of a linear loss over the tokens

This adds theirs.safetensors (tokens, gradients of PEFT's parameters, tokens of
the merged model), made/ (an adapter of the same settings that PEFT made, with
random weights, and saved) and theirs.json (differences and complaints), and
DIR/foreign: adapters with every setting that PEFT has, listed in foreign.json,
with their tokens.

Of again, it loads what loralab made of the adapters that PEFT wrote: DIR/again.json
lists directories with an export, and the paths of the backbone and of the pixels;
tokens.safetensors and theirs.json are added.
"""

import json
import pathlib
import shutil
import sys
import traceback
import warnings

import torch
from peft import (
    HiraConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForImageClassification, ViTForMaskedImageModeling, logging

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


def move(model, pixels, seed, inner=None):
    """Makes every parameter of the adapter random, so that none is at a start
    that hides what it does, but moves the tokens by less than 2. They are those
    of a model inside, if that is given."""
    inner = inner or model
    start = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    before, size = tokens(inner, pixels).detach(), 0.1
    while True:
        g = torch.Generator().manual_seed(seed)
        for name, p in model.named_parameters():
            if name in start:
                p.data = start[name] + size * torch.randn(p.shape, generator=g)
        if (tokens(inner, pixels) - before).abs().max() < 2:
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


def lora(**settings):
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "fc1"], **settings})


def masked(backbone):
    """Its decoder is one convolution outside of the backbone."""
    return ViTForMaskedImageModeling.from_pretrained(backbone)


# Adapters of models as people train them, by the name that parity_test.go knows
# them under: a model, and a configuration.
FOREIGN = {
    "rank": (AutoModel, lora(rank_pattern={"q_proj": 2})),
    "alpha": (AutoModel, lora(alpha_pattern={"v_proj": 3})),
    # PEFT sorts the keys when it saves them, and takes the first that fits.
    "both": (AutoModel, lora(rank_pattern={"layers.1.*": 3, "v_proj": 2}, alpha_pattern={r"layers\.[0-3]\.mlp\.fc1": 5, "v_proj": 1})),
    "anchored": (AutoModel, lora(rank_pattern={"^layers.1.attention.q_proj": 6}, alpha_pattern={"^layers.4.attention.q_proj": 2})),
    "rslora": (AutoModel, lora(use_rslora=True, rank_pattern={"q_proj": 2}, alpha_pattern={"fc1": 3})),
    "dora": (AutoModel, lora(use_dora=True, rank_pattern={"q_proj": 2}, alpha_pattern={"fc1": 3})),
    "dropout": (AutoModel, lora(lora_dropout=0.25)),
    "gaussian": (AutoModel, lora(init_lora_weights="gaussian")),
    "orthogonal": (AutoModel, lora(init_lora_weights="orthogonal")),
    "turned": (AutoModel, lora(fan_in_fan_out=True)),
    "excluded": (AutoModel, lora(exclude_modules=["layers.0.mlp.fc1", "v_proj"])),
    "excluded by expression": (AutoModel, lora(exclude_modules=r"layers\.(1|2)\..*")),
    "some layers": (AutoModel, lora(layers_to_transform=[0, 3], layers_pattern="layers")),
    "whole names": (AutoModel, lora(target_modules=["layers.2.attention.q_proj", "v_proj"], layers_to_transform=[1], layers_pattern="layers")),
    "expression": (AutoModel, lora(target_modules=r".*\.(q_proj|o_proj)")),
    "all linear": (AutoModel, lora(target_modules="all-linear", r=2)),
    "all linear of a classifier": (AutoModelForImageClassification, lora(target_modules="all-linear", r=2)),
    "decoder": (masked, lora(target_modules=["q_proj", "decoder.0"])),
    "classifier": (AutoModelForImageClassification, lora(modules_to_save=["classifier"])),
    "patterns": (AutoModelForImageClassification, LoraConfig(
        r=3, lora_alpha=6, target_modules=["q_proj", "fc1"], exclude_modules=["layers.4.mlp.fc1"],
        layers_to_transform=[0, 4], rank_pattern={"fc1": 2, "layers.4.attention.q_proj": 5},
        alpha_pattern={"q_proj": 9}, modules_to_save=["classifier"],
    )),
    "loha": (AutoModel, LoHaConfig(r=4, alpha=8, target_modules=["q_proj", "fc1"], rank_pattern={"fc1": 2}, alpha_pattern={"q_proj": 3})),
    "lokr": (AutoModel, LoKrConfig(r=2, alpha=4, target_modules=["q_proj", "fc1"], alpha_pattern={"q_proj": 3})),
    "hira": (AutoModel, HiraConfig(r=4, target_modules=["q_proj", "fc1"], rank_pattern={"fc1": 2})),
    "half": (AutoModel, lora()),
    # What loralab has nothing for.
    "layernorm": (AutoModelForImageClassification, lora(modules_to_save=["classifier", "layernorm"])),
    "mlp": (AutoModel, lora(target_modules=["q_proj"], modules_to_save=["layers.2.mlp.fc1"])),
    "bias all": (AutoModel, lora(bias="all")),
    "bias lora_only": (AutoModel, lora(bias="lora_only")),
    "bias of oft": (AutoModel, OFTConfig(oft_block_size=4, target_modules=["q_proj"], bias="oft_only")),
    "lora_bias": (AutoModel, lora(lora_bias=True)),
    "target_parameters": (AutoModel, lora(target_modules=["q_proj"], target_parameters=["layers.0.mlp.fc2.weight"])),
    "pissa": (AutoModel, lora(init_lora_weights="pissa")),
    "olora": (AutoModel, lora(init_lora_weights="olora")),
    "mica": (AutoModel, lora(init_lora_weights="mica")),
    "qalora": (AutoModel, lora(use_qalora=True, qalora_group_size=2)),
}

# Settings that change another file and need no model to be refused.
SET = {
    "layer_replication": [[0, 2], [1, 4]], "trainable_token_indices": [1, 2], "alora_invocation_tokens": [5],
    "use_bdlora": {"nblocks": 2}, "kasa_config": {"beta": 1e-4}, "velora_config": {"num_groups": 2},
    "monteclora_config": {"num_samples": 8}, "arrow_config": {"top_k": 2}, "init_lora_weights": "corda",
}


def foreign(root, backbone, pixels):
    said = {}
    for seed, (name, (model, config)) in enumerate(FOREIGN.items()):
        try:
            torch.manual_seed(seed)
            build = getattr(model, "from_pretrained", model)
            made = get_peft_model(build(backbone), config).eval()
            inner = made.base_model.model
            inner = getattr(inner, "vit", inner)
            move(made, pixels, seed, inner)
            if name == "half":
                for n, p in made.named_parameters():
                    p.data = p.data.bfloat16().float() if "lora" in n else p.data
            out = tokens(inner, pixels).detach().contiguous()
            made.save_pretrained(root / name)
            if name == "half":
                file = root / name / "adapter_model.safetensors"
                save_file({k: v.bfloat16() for k, v in load_file(file).items()}, file)
            save_file({"tokens": out}, str(root / name) + ".safetensors")
            said[name] = ""
        except Exception:
            said[name] = traceback.format_exc()
    for key, value in SET.items():
        shutil.copytree(root / "dropout", root / key)
        file = root / key / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
        said[key] = ""
    # It starts otherwise, and is computed like any other.
    shutil.copytree(root / "dropout", root / "eva")
    shutil.copy(root / "dropout.safetensors", root / "eva.safetensors")
    file = root / "eva" / "adapter_config.json"
    eva = {"init_lora_weights": "eva", "eva_config": {"rho": 2.0, "tau": 0.99}, "corda_config": {"corda_method": "ipm"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | eva))
    said["eva"] = ""
    (root / "foreign.json").write_text(json.dumps(said))


def again(root):
    for name in json.loads((root / "again.json").read_text()):
        dir = root / name
        pixels = load_file((dir / "pixels").read_text())["pixels"]
        said = {}
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model = PeftModel.from_pretrained(AutoModel.from_pretrained((dir / "backbone").read_text()), dir / "peft").eval()
            said["warnings"] = [str(w.message) for w in caught if any(word in str(w.message) for word in ("key", "adapter", "pattern"))]
            save_file({"tokens": tokens(model, pixels).detach().contiguous()}, dir / "tokens.safetensors")
        except Exception:
            said["error"] = traceback.format_exc()
        (dir / "theirs.json").write_text(json.dumps(said))


def cases(root):
    for seed, name in enumerate(json.loads((root / "cases.json").read_text())):
        try:
            said = case(root / name, seed)
        except Exception:
            said = {"error": traceback.format_exc()}
        (root / name / "theirs.json").write_text(json.dumps(said))
        if seed == 0:
            pixels = load_file(root / name / "case.safetensors")["pixels"]
            (root / "foreign").mkdir()
            foreign(root / "foreign", (root / name / "backbone").read_text(), pixels)


for line in sys.stdin:
    {"cases": cases, "again": again}[line.strip()](pathlib.Path(sys.argv[1]))
    print("\ndone", flush=True)
