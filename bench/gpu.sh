#!/bin/sh
# Tries loralab on the GPU of this machine, in under eight minutes: doctor, the tests
# of the engine against the CPU, an experiment, and the benchmark next to transformers
# and PEFT. It needs a Python with torch 2.11.0 and transformers, no network and no Go;
# the programs come with the kit of `make gpu-kit`, of which this is a part.
#
#     OUT=results bench/gpu.sh           # writes results/gpu.json and summary.txt
#     DEVICE=cpu bench/gpu.sh            # the same on a CPU, with a small benchmark
#
# PYTHON  the Python; otherwise python3
# OUT     where to write; otherwise gpu-results
# LIMIT   seconds for all of it; otherwise 465. What does not fit is skipped, and said
# PARTS   some of: doctor tests requests memory experiment benchmark
#
# Exit status: 0 nothing failed, 1 something did, 2 a file of the kit is
# missing, 3 there is no torch 2.11.0.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
python=${PYTHON:-python3}

command -v "$python" >/dev/null || {
	echo "gpu.sh: there is no $python, and loralab runs here on the torch 2.11.0 of a Python: name one that has it with PYTHON=" >&2
	exit 3
}
case $python in
/*) ;;
*/*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;;
esac
# Without importing it, which takes seconds, and not from a folder torch in the current
# one. "-": there is none.
torch=$(cd / && "$python" -c '
import importlib.metadata, importlib.util, os
spec = importlib.util.find_spec("torch")
print(importlib.metadata.version("torch") if spec else "-", os.path.dirname(spec.origin) if spec else "")
') || torch=-
case $torch in
2.11.0" "* | 2.11.0+*) ;;
-*)
	echo "gpu.sh: $python has no torch, and loralab runs here on the torch 2.11.0 of a Python: name one that has it with PYTHON=" >&2
	exit 3
	;;
*)
	echo "gpu.sh: $python has torch ${torch%% *}, needed is 2.11.0: name a Python that has it with PYTHON=" >&2
	exit 3
	;;
esac
for file in runner runner-engine bench-step train.test plugins/lora; do
	if [ ! -x "$root/bin/$file" ]; then
		echo "gpu.sh: there is no $root/bin/$file: make gpu-kit packs all that is needed into bin/gpu-kit.tar.xz" >&2
		exit 2
	fi
done
LIBTORCH=${torch#* }
LD_LIBRARY_PATH=$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LIBTORCH LD_LIBRARY_PATH
exec "$python" -B "$here/gpu.py" "$root" --out "${OUT:-gpu-results}" --device "${DEVICE:-cuda}" \
	--limit "${LIMIT:-465}" --parts "${PARTS:-all}"
