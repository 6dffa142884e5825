"""For writing LoRA variants of loralab in Python.

A variant is a dataclass of its parameters with a method that draws the adapted
layer as a graph:

    @dataclass
    class LoRA:
        rank: int
        alpha: float

        def build(self, g, site):
            a = g.param("lora_A", (self.rank, site.in_), init.kaiming_uniform(5**0.5))
            b = g.param("lora_B", (site.out, self.rank), init.zeros)
            return g.base(g.x) + self.alpha / self.rank * (g.x @ a.T @ b.T)

    variant = Variant(LoRA, name="lora", version="1.0.0", schema=...)

build runs once for each adapted place, before training, and returns; the engine
compiles the graph. No variant code runs while training. x has shape (T, in):
all tokens of a batch. Every node knows its shape, with T written -1, and a
mistake is an error at the line that makes it.

What a variant may have besides: check(site), a list of Problems with the
parameters that the schema cannot express; peft_config(sites), the settings
under which PEFT stores the tensors marked with Graph.peft.

    python3 loralab_plugin/pack.py DIR OUT

packs main.py, schema.cue and this package into one file that runner starts.
"""

from . import init
from .graph import T, Graph, Mistake, Node
from .variant import Model, Problem, Site, Variant

__all__ = ["Graph", "Mistake", "Model", "Node", "Problem", "Site", "T", "Variant", "init"]
