"""Lists the fields of the official messages, from Record down, as far as the paths on
standard input go: "number.number…" in, the same with name and type out. The types are those
of Go; int64 is uint32 as well, whose bytes are the same.
"""

import importlib.util
import sys
import types

# The messages alone: importing the whole client takes seconds.
wandb = types.ModuleType("wandb")
wandb.__path__ = importlib.util.find_spec("wandb").submodule_search_locations
sys.modules["wandb"] = wandb

from wandb.proto import wandb_internal_pb2

KINDS = {1: "float64", 3: "int64", 4: "uint64", 5: "int32", 8: "bool", 9: "string", 11: "message", 13: "int64", 14: "int32"}

for line in sys.stdin:
    message, names = wandb_internal_pb2.Record.DESCRIPTOR, []
    for number in line.split("."):
        field = message.fields_by_number.get(int(number))
        if field is None:
            names.append("?")
            break
        names.append(field.name)
        message = field.message_type
    kind = KINDS.get(field.type, str(field.type)) if field else "?"
    if field and message and message.GetOptions().map_entry:
        kind = "map"
    print(line.strip(), ".".join(names), kind)
