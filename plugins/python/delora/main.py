"""DeLoRA: a low-rank update whose strength is decoupled from its direction,

    y = base(x) + drop(x)·diag(c) Aᵀ diag(λ / (r‖a_k‖‖b_k‖)) Bᵀ,

a_k being the rows of A, b_k the columns of B, and c the norms of W's columns at
the start: each of the r rank-one updates has the size λ/r, relative to W, and λ
is trained. Bini, Girrbach and Akata, arXiv:2503.18225. As in PEFT norms count
as at least 1e-4, so that B starts as zero and the adapter as nothing.
"""

import pkgutil
from dataclasses import dataclass

from loralab_plugin import Problem, Variant, init

LEAST_NORM = 1e-4


@dataclass
class DeLoRA:
    rank: int
    bound: float
    dropout: float

    def check(self, site):
        if site.kind == "STREAM":
            return [Problem("", f"{site.name} is a stream and has no W", "adapt the layers behind it")]
        most = min(site.in_, site.out)
        if self.rank > most:
            return [Problem("rank", f"{self.rank} is more than the layer's smaller side, {most}", f"use {most} at most")]
        return []

    def build(self, g, site):
        a = g.param("delora_A", (self.rank, site.in_), init.kaiming_uniform())
        b = g.param("delora_B", (site.out, self.rank), init.zeros)
        bound = g.param("delora_lambda", (1,), init.constant(self.bound))
        columns = g.param("w_norm", (site.in_,), init.col_norm, derived=True)

        sizes = g.clamp(g.norm(a, 1), LEAST_NORM) * g.clamp(g.norm(b, 0), LEAST_NORM)
        h = (g.dropout(g.x, self.dropout) * columns) @ a.T
        y = g.base(g.x) + h * (bound / self.rank / sizes) @ b.T

        g.peft("delora_A", a)
        g.peft("delora_B", b)
        g.peft("delora_lambda", bound)
        g.peft("delora_w_norm", columns)
        return y

    def peft_config(self, sites):
        if any(site.kind != "LINEAR" for site in sites):
            return None  # PEFT's adapts linear layers only
        return {
            "peft_type": "DELORA", "r": self.rank, "delora_lambda": self.bound, "module_dropout": self.dropout,
            "bias": "none", "init_weights": True,
        }


def adopt(config, sites):
    """Reads adapter_config.json. What is not known of it changes the adapter."""
    problems = [
        Problem(key, f"{config[key]!r} is more than this variant has")
        for key, usual in {"bias": "none", "rank_pattern": {}, "lambda_pattern": {}}.items()
        if config.get(key) not in (None, usual)
    ]
    return problems or DeLoRA(
        rank=config.get("r", 8), bound=float(config.get("delora_lambda", 15)),
        dropout=float(config.get("module_dropout") or 0),
    )


variant = Variant(
    DeLoRA, name="delora", version="1.0.0", paper="arXiv:2503.18225",
    about="Low-rank update with a trained bound, apart from its direction",
    formula="y = base(x) + drop(x)·diag(c) Aᵀ diag(λ/(r‖a_k‖‖b_k‖)) Bᵀ, c = column norms of W",
    parameters="rank*(in+out) + 1", peft="DELORA", examples=["rank: 3", "rank: 2, bound: 5, dropout: 0.1"],
    schema=pkgutil.get_data(__name__, "schema.cue").decode(), adopt=adopt,
)
