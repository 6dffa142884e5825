"""Has PEFT compute what loralab wrote for it; see python.go.

It says a line of JSON when it is ready, and one for each line of its standard
input, which names a directory:

    backbone/  peft/   as AutoModel and PeftModel load them
    case.safetensors   pixels; tokens, as loralab computes them; plain, without
                       the adapter
"""

import sys

# A file of the current directory is no module.
sys.path[:] = [path for path in sys.path if path]

import json
import os
import pathlib
import warnings

# What the libraries print goes to standard error.
say = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def tell(**said):
    say.write(json.dumps(said) + "\n")


try:
    import peft
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel
except ImportError as e:
    tell(missing=e.name or str(e))
    sys.exit(0)


def file_name(parameter):
    """The name of a parameter in a file, which has no name of an adapter."""
    return parameter.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def compare(dir):
    given = load_file(dir / "case.safetensors")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(dir / "backbone"), dir / "peft").eval()
    file = load_file(dir / "peft" / "adapter_model.safetensors")
    unexpected = list(peft.set_peft_model_state_dict(model, file).unexpected_keys)
    own = {file_name(n) for n, _ in model.named_parameters() if ".default" in n}
    with torch.no_grad():
        tokens = model(given["pixels"]).last_hidden_state
    largest = lambda x: x.abs().max().item()
    return {
        "warnings": [str(w.message) for w in caught if "adapter" in str(w.message)],
        "missing": sorted(own - set(file)),
        "unexpected": unexpected,
        "difference": largest(tokens - given["tokens"]) if torch.isfinite(tokens).all() else None,
        "effect": largest(given["tokens"] - given["plain"]),
    }


tell(peft=peft.__version__)
for line in sys.stdin:
    try:
        tell(**compare(pathlib.Path(line.rstrip("\n"))))
    except Exception as e:
        tell(error=f"{type(e).__name__}: {e}")
