"""Packs a variant into one file that runner starts:

    python3 loralab_plugin/pack.py DIR OUT

DIR has main.py, which defines `variant`, and all it imports; this package goes
with it. The file is a shell script with an archive behind it, so that its
SHA-256, which runner.lock pins, covers all that runs, but for Python itself and
the packages grpcio, protobuf and cryptography. The same files give the same
bytes. It needs nothing but Python's own library.
"""

import io
import os
import pathlib
import stat
import sys
import zipfile

# $LORALAB_PYTHON names the interpreter, or else it is the python3 on PATH.
LAUNCHER = """#!/bin/sh
python=${LORALAB_PYTHON:-python3}
command -v "$python" >/dev/null || {
	echo "error: there is no $python: install Python 3.10 or newer, or name one in \\$LORALAB_PYTHON" >&2
	exit 1
}
exec "$python" -B "$0" "$@"
exit
"""

MAIN = """import sys

if sys.version_info < (3, 10):
    sys.exit(f"error: this plug-in needs Python 3.10 or newer; {sys.executable} is {sys.version.split()[0]}")
try:
    import cryptography, google.protobuf, grpc
except ImportError as e:
    sys.exit(
        f"error: Python packages are missing ({e}): run "
        f"{sys.executable} -m pip install grpcio protobuf cryptography, or name another Python in $LORALAB_PYTHON"
    )
from loralab_plugin.serve import serve
from main import variant

serve(variant)
"""


def pack(directory, out):
    """Writes out from the files below directory, in one step."""
    directory, out, own = pathlib.Path(directory), pathlib.Path(out), pathlib.Path(__file__).parent
    if not (directory / "main.py").is_file():
        sys.exit(f"error: {directory} has no main.py")
    files = {"__main__.py": MAIN.encode()}
    for root, to in ((directory, ""), (own, own.name + "/")):
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            parts = name.split("/")
            if path.is_file() and not any(p.startswith((".", "__pycache__", "test_")) for p in parts):
                if path.resolve() != out.resolve():
                    files[to + name] = path.read_bytes()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            z.writestr(info, files[name])
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(f".{out.name}.new-{os.getpid()}")
    new.write_bytes(LAUNCHER.encode() + archive.getvalue())
    new.chmod(new.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    new.replace(out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} DIR OUT")
    pack(*sys.argv[1:])
