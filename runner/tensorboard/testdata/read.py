"""Reads a log directory with TensorBoard itself and prints what it sees as JSON.

EventAccumulator compares both CRCs of each record; the default loader of the server
does not look at that of the data.
"""
import json
import math
import os
import sys

from tensorboard.backend.event_processing import data_provider, event_accumulator, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

logdir = sys.argv[1]
runs = {}
for directory, _, files in sorted(os.walk(logdir)):
    if not any("tfevents" in f for f in files):
        continue
    a = event_accumulator.EventAccumulator(directory, size_guidance={"scalars": 0, "images": 0})
    a.Reload()
    runs[os.path.relpath(directory, logdir)] = {
        "scalars": {t: [[e.step, e.value if math.isfinite(e.value) else str(e.value)] for e in a.Scalars(t)] for t in a.Tags()["scalars"]},
        "images": {t: [[e.step, e.width, e.height, len(e.encoded_image_string)] for e in a.Images(t)] for t in a.Tags()["images"]},
    }

multiplexer = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(logdir)
multiplexer.Reload()
context = backend_context.Context(base_plugin.TBContext(data_provider=data_provider.MultiplexerDataProvider(multiplexer, logdir)))
request = RequestContext()
metadata = context.hparams_metadata(request, "")
experiment = context.experiment_from_metadata(request, "", True, metadata, None)
groups = []
if experiment.metric_infos or experiment.hparam_infos:
    wanted = api_pb2.ListSessionGroupsRequest(
        experiment_name="",
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING],
        col_params=[api_pb2.ColParams(metric=m.name) for m in experiment.metric_infos],
        start_index=0, slice_size=100)
    reply = list_session_groups.Handler(request, context, "", wanted).run()

    def plain(v):
        return getattr(v, v.WhichOneof("kind"))

    groups = [{
        "name": g.name,
        "hparams": {k: plain(v) for k, v in g.hparams.items()},
        "metrics": {m.name.tag: m.value for m in g.metric_values},
        "sessions": {s.name: [s.status, s.start_time_secs] for s in g.sessions},
    } for g in reply.session_groups]
json.dump({"runs": runs, "metrics": [m.name.tag for m in experiment.metric_infos],
           "hparams": {h.name: api_pb2.DataType.Name(h.type) for h in experiment.hparam_infos if h.differs},
           "groups": groups}, sys.stdout)
