"""The messages of plugins/protocol/variant.proto.

They are made from the compiled description beside this file when it is
imported, so any protobuf from 4.22 on will do. `make proto` writes it.
"""

import pkgutil

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_files = descriptor_pb2.FileDescriptorSet.FromString(pkgutil.get_data(__package__, "variant.binpb"))
_pool = descriptor_pool.DescriptorPool()
for _f in _files.file:
    _pool.Add(_f)

SERVICE = "loralab.variant.v1.Variant"


def _message(name):
    c = message_factory.GetMessageClass(_pool.FindMessageTypeByName("loralab.variant.v1." + name))
    c.__module__ = __name__  # without one, pydoc and help fail
    return c


DescribeRequest, DescribeReply = _message("DescribeRequest"), _message("DescribeReply")
BuildRequest, BuildReply = _message("BuildRequest"), _message("BuildReply")
AdoptRequest, AdoptReply = _message("AdoptRequest"), _message("AdoptReply")
Program, Node, Param, Init = _message("Program"), _message("Node"), _message("Param"), _message("Init")
Peft, PeftTensors, PeftTensor = _message("Peft"), _message("PeftTensors"), _message("PeftTensor")
Problem, Site, Model, Aux = _message("Problem"), _message("Site"), _message("Model"), _message("Aux")

# The operations by name, from the one list of them: Op["MATMUL"].
Op = {v.name: v.number for v in _pool.FindEnumTypeByName("loralab.variant.v1.Op").values}
Kind = {v.name: v.number for v in _pool.FindEnumTypeByName("loralab.variant.v1.Init.Kind").values}
Scope = {v.name: v.number for v in _pool.FindEnumTypeByName("loralab.variant.v1.Param.Scope").values}
SiteKind = {v.name: v.number for v in _pool.FindEnumTypeByName("loralab.variant.v1.Site.Kind").values}

# What version 2 of the op list added; all else is version 1.
_LATER_OPS, _LATER_KINDS = range(Op["SIGMOID"], Op["LAYER_NORM"] + 1), (Kind["INTEGERS"],)


def version_of(program):
    """The lowest version of the op list that has all that a program uses."""
    inits = [p.init for p in program.params]
    for i in inits:
        if i.HasField("inner"):
            inits.append(i.inner)
    later = any(n.op in _LATER_OPS for n in program.nodes) or any(i.kind in _LATER_KINDS for i in inits)
    return 2 if later else 1
