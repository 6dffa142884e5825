#!/bin/sh
# Puts axe-core, which looks at pages for what keeps people from using them, into the
# user's cache, once: axe.min.js (MPL-2.0) out of a Python package that has it. Prints
# its path.
set -eu
version=0.1.8 # of axe-playwright-python; it has axe-core 4.12.1
dir=${XDG_CACHE_HOME:-$HOME/.cache}/loralab/axe-$version
if [ ! -f "$dir/axe.min.js" ]; then
	mkdir -p "$dir"
	new=$(mktemp -d "$dir/new-XXXXXX")
	trap 'rm -rf "$new"' EXIT
	echo "axe-playwright-python==$version --hash=sha256:fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8" >"$new/requirements.txt"
	python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -d "$new" -r "$new/requirements.txt" >&2
	python3 -m zipfile -e "$new"/*.whl "$new"
	mv "$new/axe_playwright_python/axe.min.js" "$dir/axe.min.js"
fi
echo "$dir/axe.min.js"
