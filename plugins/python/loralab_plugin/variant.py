"""A variant, and what it answers."""

import contextlib
import dataclasses
import json
import typing

from . import protocol as pb
from .graph import Graph, Mistake, Node, T, site_name


@dataclasses.dataclass(frozen=True)
class Problem:
    """A mistake in the user's parameters."""

    param: str  # path below adapter.params; "" if it is the layer that does not fit
    message: str  # "8 does not divide 252"
    hint: str = ""  # "use 2, 3, 4, 6, 7, 9 or 12"


@dataclasses.dataclass(frozen=True)
class Model:
    """The backbone."""

    family: str  # vit | deit | dinov2
    dim: int
    depth: int  # blocks in use
    heads: int
    mlp: int  # hidden width


@dataclasses.dataclass(frozen=True)
class Site:
    """The place that is adapted."""

    name: str  # query key value output fc1 fc2 | patch | attn_in mlp_in
    block: int  # 0-based
    kind: str  # LINEAR: y = xWᵀ + b | STREAM: shared by several layers, no W | PATCH
    in_: int
    out: int
    bias: bool  # b exists
    model: Model
    # The largest sizes of all adapted sites: the size of what the model shares.
    max_in: int
    max_out: int


class Variant:
    """A variant. params is a dataclass with a field for each parameter of the
    schema, of the same name; see the package.

    schema      CUE source with a definition #Params
    formula     of the adapted layer, for documents
    parameters  trainable parameters of a layer: "rank*(in+out)"
    peft        PEFT's name for it: "LORA"
    examples    parameters that `runner plugins test` tries: "rank: 3"
    adopt       reads PEFT's settings: adopt(config, sites) is params or Problems
    """

    def __init__(self, params, *, name, version, schema, paper="", about="", authors=(), formula="", parameters="",
                 changes_start=False, peft="", examples=(), adopt=None):
        self.params, self.adopt_config = params, adopt
        self.description = pb.DescribeReply(
            name=name, version=version, schema=schema, paper=paper, about=about, authors=authors, formula=formula,
            parameters=parameters, changes_start=changes_start, peft_type=peft, examples=examples,
        )

    def build(self, request):
        """Answers a BuildRequest. A Mistake says what is wrong with a graph."""
        params = self._decode(request.params_json)
        sites = _sites(request.model, request.sites)
        problems = _problems(params, sites, request.sites)
        if problems:
            return pb.BuildReply(problems=problems)
        reply, index, peft = pb.BuildReply(), {}, []
        streams = any(s.kind == "STREAM" for s in sites)
        for site, at in zip(sites, request.sites):
            program, tensors = _draw(params, at, site)
            key = program.SerializeToString(deterministic=True)
            if key not in index:
                index[key] = len(reply.programs)
                reply.programs.append(program)
                peft.append(tensors)
            elif not streams and peft[index[key]] != tensors:
                raise Mistake(f"{site_name(at)}: the program is that of another site, but not what PEFT stores")
            reply.program_of_site.append(index[key])
        if not streams:  # PEFT adapts modules
            self._store(params, sites, reply, peft)
        return reply

    def _store(self, params, sites, reply, peft):
        config = params.peft_config(sites) if hasattr(params, "peft_config") else None
        if config is None:
            if any(t is not None for t in peft) and not hasattr(params, "peft_config"):
                raise Mistake("PEFT tensors are marked, but there is no method peft_config")
            return
        if any(t is None for t in peft):
            raise Mistake("peft_config has settings, but build has marked no tensor with peft for some site")
        reply.peft.config_json = json.dumps(config, sort_keys=True)
        reply.peft.of_program.extend(peft)

    def adopt(self, request):
        """Answers an AdoptRequest."""
        found = self.adopt_config(json.loads(request.config_json), _sites(request.model, request.sites))
        if isinstance(found, list):
            return pb.AdoptReply(problems=[
                pb.Problem(param=p.param, message=p.message, hint=p.hint, site=-1) for p in found
            ])
        return pb.AdoptReply(params_json=json.dumps(dataclasses.asdict(found), sort_keys=True))

    def _decode(self, text):
        """Parameters without a field, fields without a parameter and wrong types
        are errors: schema and class would have drifted apart."""
        given = json.loads(text or "{}")
        types = typing.get_type_hints(self.params)
        fields = {f.name: f for f in dataclasses.fields(self.params)}
        strange = sorted(set(given) - set(fields))
        missing = sorted(n for n, f in fields.items() if n not in given and f.default is dataclasses.MISSING)
        if strange or missing:
            raise ValueError(
                f"the parameters {text} do not fit {self.params.__name__}: "
                + "; ".join([f"no field for {n}" for n in strange] + [f"no parameter for {n}" for n in missing])
            )
        for name, value in given.items():
            want = typing.get_origin(types[name]) or types[name]
            if want is float and type(value) is int:
                given[name] = float(value)
            elif isinstance(want, type) and (not isinstance(value, want) or want is int and isinstance(value, bool)):
                raise ValueError(f"parameter {name} is {json.dumps(value)}, want {want.__name__}")
        return self.params(**given)


def _sites(model, sites):
    m = Model(model.family, model.dim, model.depth, model.heads, model.mlp)
    kinds = {number: name for name, number in pb.SiteKind.items()}
    max_in = max((getattr(s, "in") for s in sites), default=0)
    max_out = max((s.out for s in sites), default=0)
    return [
        Site(s.name, s.block, kinds[s.kind], getattr(s, "in"), s.out, s.bias, m, max_in, max_out) for s in sites
    ]


@contextlib.contextmanager
def _at(site):
    """Notes in an error, other than a Mistake, at which site it was raised."""
    try:
        yield
    except Mistake:
        raise
    except BaseException as e:
        e.loralab_site = site_name(site)
        raise


def _draw(params, at, site):
    """The program of one site, and what PEFT stores of it."""
    graph = Graph(at)
    with _at(at):
        y = params.build(graph, site)
    want = (T, site.out)
    if isinstance(y, Node) and y.graph is graph and y.shape != want:
        # Drawn once more up to that node, so that the error has the line that made it.
        again = Graph(at)
        again.until = y.index
        try:
            params.build(again, site)
        except Mistake:
            raise
        except BaseException:  # a build that is not the same again
            pass
    return graph.finish(y)


def _problems(params, sites, at):
    """The problems of all sites, each once; one that every site has is about
    no site in particular."""
    places = {}
    for i, site in enumerate(sites):
        with _at(at[i]):
            for p in params.check(site) if hasattr(params, "check") else ():
                places.setdefault(p, []).append(i)
    return [
        pb.Problem(param=p.param, message=p.message, hint=p.hint, site=-1 if len(where) == len(sites) else where[0])
        for p, where in places.items()
    ]
