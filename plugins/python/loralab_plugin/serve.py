"""Serves a variant to the runner that started this process.

This is the other side of hashicorp/go-plugin: a cookie in the environment tells
a plug-in from a program started by hand; one line on standard output says where
the gRPC server listens and shows its certificate; the rest is calls. What the
variant prints goes to standard error, because that line has to be the first.

The connection is encrypted with a certificate made for this process. runner's
own cannot be checked: go-plugin makes it with a curve that gRPC for Python does
not know. Who may connect is left to the socket's directory, which is private.
"""

import atexit
import base64
import concurrent.futures
import datetime
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import traceback

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from . import protocol as pb
from .graph import Mistake

COOKIE = ("LORALAB_VARIANT", "6d0c5be95ae3f2c1")
MESSAGE_LIMIT = 4 << 20
BY_HAND = """This is a loralab variant plug-in. It is not meant to be run by itself:
install it with "runner plugins install PATH" and name it in adapter.variant;
runner starts it when an experiment needs it."""

# What a variant prints goes to standard error from here on, when main.py has not been
# imported yet: the first line of standard output is the handshake.
_handshake = None
if os.environ.get(COOKIE[0]) == COOKIE[1]:
    _handshake = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def serve(variant):
    """Returns when runner is done."""
    if _handshake is None:
        sys.exit(BY_HAND)
    threading.Thread(target=_exit_with_runner, daemon=True).start()

    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(max_workers=4),
        options=[("grpc.max_receive_message_length", MESSAGE_LIMIT), ("grpc.max_send_message_length", MESSAGE_LIMIT)],
    )
    done = threading.Event()
    server.add_generic_rpc_handlers((_variant_calls(variant), *_plugin_calls(done)))
    directory = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or tempfile.mkdtemp(prefix="loralab-plugin-")
    socket = pathlib.Path(directory, f"plugin-{os.getpid()}")
    if not os.environ.get("PLUGIN_UNIX_SOCKET_DIR"):
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
    certificate = ""
    if os.environ.get("PLUGIN_CLIENT_CERT"):
        key, chain, certificate = _certificate()
        server.add_secure_port(f"unix:{socket}", grpc.ssl_server_credentials([(key, chain)]))
    else:
        server.add_insecure_port(f"unix:{socket}")
    server.start()
    print(f"1|1|unix|{socket}|grpc|{certificate}", file=_handshake, flush=True)
    done.wait()
    server.stop(grace=1).wait()


def _exit_with_runner():
    """Ends this process when its runner has ended.

    LORALAB_LIFELINE is the number of the reading end of a pipe that only the runner
    can write to. It reports the end of a runner that was killed, also before this
    process runs.
    """
    lifeline = os.environ.get("LORALAB_LIFELINE", "")
    if lifeline.isdecimal() and os.read(int(lifeline), 1) == b"":
        os._exit(1)


def _certificate():
    """A key, a certificate for localhost (both PEM), and the latter as the
    handshake has it: base64 of DER without padding."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(seconds=30))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return (
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
        base64.b64encode(der).decode().rstrip("="),
    )


def _variant_calls(variant):
    def call(answer, request_type):
        def handle(request, context):
            try:
                return answer(request)
            except Mistake as e:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{_line_of_the_variant(e)}{e}")
            except ValueError as e:
                if _in_variant(e):
                    _abort_with_stack(context, e)
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(e))
            except BaseException as e:  # sys.exit too, which would end this thread and leave the call open
                _abort_with_stack(context, e)

        return grpc.unary_unary_rpc_method_handler(
            handle, request_type.FromString, lambda reply: reply.SerializeToString(deterministic=True),
        )

    calls = {
        "Describe": call(lambda _: variant.description, pb.DescribeRequest),
        "Build": call(variant.build, pb.BuildRequest),
    }
    if variant.adopt_config:
        calls["Adopt"] = call(variant.adopt, pb.AdoptRequest)
    return grpc.method_handlers_generic_handler(pb.SERVICE, calls)


def _in_variant(error):
    """Whether the variant's own code failed, and not the reading of parameters."""
    return any(not f.filename.startswith(os.path.dirname(__file__)) for f in traceback.extract_tb(error.__traceback__))


def _line_of_the_variant(error):
    """ "main.py:23: ", the last line that is not of this package."""
    own = os.path.dirname(__file__)
    lines = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(own)]
    return f"{os.path.basename(lines[-1].filename)}:{lines[-1].lineno}: " if lines else ""


def _abort_with_stack(context, error):
    """Like a panic in Go: the message, and the stack as a google.rpc.DebugInfo
    in the details of the status."""
    message = f"panic: {type(error).__name__}: {error}"
    if site := getattr(error, "loralab_site", ""):
        message += f" (at {site})"
    stack = "".join(traceback.format_exception(error))[-16_000:]
    debug = _field(1, b"type.googleapis.com/google.rpc.DebugInfo") + _field(2, _field(2, stack.encode()))
    code = grpc.StatusCode.INTERNAL
    status = b"\x08" + _varint(code.value[0]) + _field(2, message.encode()) + _field(3, debug)
    context.set_trailing_metadata((("grpc-status-details-bin", status),))
    context.abort(code, message)


def _field(number, content):
    """A length-delimited field of a protobuf message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _plugin_calls(done):
    """What go-plugin asks of every plug-in: whether it is well, and to end."""
    raw = {"request_deserializer": None, "response_serializer": None}

    def shutdown(_request, _context):
        done.set()
        return b""

    serving = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
    return (
        grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(lambda *_: serving, **raw)},
        ),
        grpc.method_handlers_generic_handler(
            "plugin.GRPCController", {"Shutdown": grpc.unary_unary_rpc_method_handler(shutdown, **raw)},
        ),
    )
