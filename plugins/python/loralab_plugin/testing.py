"""For the tests of a variant: builds it without a process or runner."""

import json

from . import protocol as pb


def linear(in_, out, name="query", block=0, bias=True):
    """A linear layer of a backbone."""
    site = pb.Site(name=name, block=block, kind=pb.SiteKind["LINEAR"], out=out, bias=bias)
    setattr(site, "in", in_)
    return site


def stream(width, name="attn_in", block=0):
    """A stream of a backbone."""
    site = pb.Site(name=name, block=block, kind=pb.SiteKind["STREAM"], out=width)
    setattr(site, "in", width)
    return site


def build(variant, params, *sites):
    """The reply for parameters, a dictionary, at sites; without any, at a
    linear layer of width 24."""
    model = pb.Model(family="vit", dim=24, depth=2, heads=3, mlp=60)
    sites = sites or (linear(24, 24),)
    return variant.build(pb.BuildRequest(params_json=json.dumps(params), model=model, sites=sites))


def adopt(variant, config, *sites):
    """The reply for PEFT's settings, a dictionary."""
    return variant.adopt(pb.AdoptRequest(config_json=json.dumps(config), sites=sites or (linear(24, 24),)))


def trainable(program):
    """The number of trainable elements that one site sees."""
    count = 0
    for p in program.params:
        n = 1
        for d in p.shape:
            n *= d
        count += n if p.trainable else 0
    return count
