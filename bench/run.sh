#!/bin/sh
# Trains the same model with loralab and with transformers + PEFT, turn by turn
# on the same libtorch, and prints the ratios. Options are those of compare.py:
#
#     bench/run.sh --rounds 3 --steps 4 --precision fp32
#
# Needs what `make build` needs, and a Python from 3.10 on with venv; the first
# run installs torch, transformers and PEFT (about 5 GB) into the user's cache.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/loralab/bench
venv=$cache/venv
mkdir -p "$cache"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install -q -r "$here/requirements.txt"
	cp "$here/requirements.txt" "$venv/installed.txt"
fi
make -s -C "$here/.." bin/bench-step
exec "$venv/bin/python" "$here/compare.py" --ours "$here/../bin/bench-step" "$cache" "$@"
