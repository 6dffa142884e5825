#!/bin/sh
# Makes the Python environment of the tests in the user's cache, once, and prints
# its interpreter. It takes about 1.1 GB and half a minute, because it leaves out
# the 4 GB of torch that only GPUs need: the package index has torch for x86-64
# with CUDA alone, and the half of it that binds Python asks the linker for every
# CUDA library even if none is ever called. Where those would be lie small
# libraries that have the names and do nothing.
#
# $LORALAB_PYTHON names another interpreter that has all of requirements.txt.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${LORALAB_PYTHON:-}" ]; then
	echo "$LORALAB_PYTHON"
	exit
fi
sum=$(cat "$here/requirements.txt" "$here/install.sh" | sha256sum | cut -c1-12)
env=${XDG_CACHE_HOME:-$HOME/.cache}/loralab/python-$sum
mkdir -p "$(dirname "$env")"
exec 9>"$env.lock"
flock 9
if [ -x "$env/bin/python" ]; then
	echo "$env/bin/python"
	exit
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	echo "the tests against PEFT need Python 3.11 or newer as python3; it is $(python3 --version)" >&2
	exit 1
}
for tool in cc nm; do
	command -v $tool >/dev/null || { echo "the tests against PEFT need $tool (Debian, Ubuntu: apt-get install build-essential)" >&2; exit 1; }
done
echo "making the Python environment of the tests in $env" >&2
new=$env.new
trap 'rm -rf "$new"' EXIT
rm -rf "$new"
python3 -m venv "$new"
"$new/bin/python" -m pip install -q --disable-pip-version-check --no-compile --no-deps -r "$here/requirements.txt" >&2

torch=$(echo "$new"/lib/python3*/site-packages/torch)
lib=$torch/lib
defined() { nm -D --defined-only "$@" | awk 'NF > 1 {print $NF}'; }
cuda="$lib/libtorch_cuda.so $lib/libtorch_nvshmem.so"
# What the Python half wants and only CUDA libraries have. Functions return the
# address of zeros; types of exceptions and classes need a name of their own,
# because pybind11 keeps a table by it.
nm -D --undefined-only "$lib/libtorch_python.so" "$lib/libtorch.so" | awk 'NF > 1 {print $NF}' | sed 's/@.*//' | sort -u >"$new/wanted"
{
	defined $cuda | sed 's/@.*//' | sort -u | comm -12 "$new/wanted" -
	grep -E '^(cudnn|cuFile)[A-Z]' "$new/wanted" || true
} | sort -u | awk '
	/^_ZTI/ { types = types sprintf("\n.globl %s\n%s: .quad _ZTVN10__cxxabiv117__class_type_infoE+16, 1f\n1: .asciz \"%s\"\n.balign 8", $1, $1, substr($1, 5)); next }
	/^_ZT/ { data = data "\n.globl " $1 "\n" $1 ":"; next }
	{ text = text "\n.globl " $1 "\n.type " $1 ", @function\n" $1 ":" }
	END { print ".text" text "\nleaq zeros(%rip), %rax\nret\n.data\n.balign 8" types "\nzeros:" data "\n.zero 4096\n.section .note.GNU-stack" }
' >"$new/empty.s"
rm -rf $cuda "$lib/libtorch_cuda_linalg.so" "$lib/libcaffe2_nvrtc.so" "$torch/include" "$torch"/bin/protoc*
empty() { cc -shared -nostdlib -Wl,-soname,"$1" -o "$lib/$1" -x assembler "$2"; }
empty libtorch_cuda.so "$new/empty.s"
empty libcudnn.so.9 /dev/null
empty libcufile.so.0 /dev/null
rm "$new/wanted" "$new/empty.s"

"$new/bin/python" -c 'import torch; torch.ones(2, 2).matmul(torch.ones(2, 2)).sum().item()' || {
	echo "torch does not start without CUDA libraries; set LORALAB_PYTHON to a Python with all of $here/requirements.txt" >&2
	exit 1
}
rm -rf "$env"
mv "$new" "$env"
echo "$env/bin/python"
