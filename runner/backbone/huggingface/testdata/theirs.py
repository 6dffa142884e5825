"""What huggingface_hub does with a cache: it reads one that we have filled, or
fills one. Prints JSON."""

import json
import os
import sys

import huggingface_hub as hub
from huggingface_hub import file_download

what, repo, revision = sys.argv[1:]
out = {}
if what == "read":  # offline
    for name in ["config.json", "model.safetensors", "preprocessor_config.json"]:
        found = hub.try_to_load_from_cache(repo, name, revision=revision)
        out[name] = "no such file" if found is file_download._CACHED_NO_EXIST else found
    out["snapshot"] = hub.snapshot_download(repo, revision=revision, local_files_only=True)
    cache = hub.scan_cache_dir()
    out["warnings"] = [str(w) for w in cache.warnings]
    out["repos"] = sorted(r.repo_id for r in cache.repos)
    out["refs"] = sorted(ref for r in cache.repos for v in r.revisions for ref in v.refs)
else:
    out["config.json"] = hub.hf_hub_download(repo, "config.json", revision=revision)
    out["model.safetensors"] = hub.hf_hub_download(repo, "model.safetensors", revision=revision)
    try:
        hub.hf_hub_download(repo, "preprocessor_config.json", revision=revision)
    except hub.errors.EntryNotFoundError:
        pass
json.dump(out, sys.stdout)
