import pydoc
import types
import unittest
from dataclasses import dataclass

from loralab_plugin import Graph, Mistake, Problem, T, Variant, init
from loralab_plugin import protocol as pb
from loralab_plugin import serve
from loralab_plugin.testing import build, linear, stream


def graph(in_=6, out=4):
    return Graph(linear(in_, out))


class TestGraph(unittest.TestCase):
    def test_every_operation_is_there(self):
        """Each one of the protocol, once, with the shape that it gives."""
        g = graph()
        a, m = g.param("a", (2, 6), init.zeros), g.param("m", (3, 2, 2), init.zeros)
        at = g.param("at", (2,), init.indices([1, 0]), trainable=False)
        y = g.base(g.x)
        drawn = {
            "X": (g.x, (T, 6)), "BASE": (y, (T, 4)), "WEIGHT": (g.w, (4, 6)), "BIAS": (g.b, (4,)), "PARAM": (a, (2, 6)),
            "CONST": (g.const((1, 2), [1, 2]), (1, 2)), "EYE": (g.eye(3), (3, 3)),
            "ADD": (y + g.b, (T, 4)), "SUB": (y - g.b, (T, 4)), "MUL": (y * g.b, (T, 4)), "DIV": (y / g.b, (T, 4)),
            "NEG": (-a, (2, 6)), "SCALE": (2 * a, (2, 6)), "MATMUL": (g.x @ a.T, (T, 2)),
            "EINSUM": (g.einsum("ti,ri->tr", g.x, a), (T, 2)), "KRON": (g.kron(a, a), (4, 36)),
            "RESHAPE": (g.reshape(g.x, T, 2, 3), (T, 2, 3)), "PERMUTE": (g.permute(a, -1, 0), (6, 2)),
            "SLICE": (g.slice(a, -1, 2, 3), (2, 3)), "CONCAT": (g.concat(0, a, a), (4, 6)), "REPEAT": (g.repeat(a, 2, 1), (4, 6)),
            "SUM": (g.sum(m), ()), "NORM": (g.norm(a, 1, keepdim=True), (2, 1)), "SQRT": (g.sqrt(a), (2, 6)),
            "CLAMP": (g.clamp(a, 0, 1), (2, 6)), "SOLVE": (g.solve(m, m), (3, 2, 2)), "SOFTMAX": (g.softmax(a, -1), (2, 6)),
            "RELU": (g.relu(a), (2, 6)), "GELU": (g.gelu(a), (2, 6)), "DROPOUT": (g.dropout(a, 0.5), (2, 6)),
            "DETACH": (g.detach(a), (2, 6)), "GATHER": (g.gather(a, 1, at), (2, 2)),
            "SCATTER": (g.scatter((3, 3), g.slice(g.b, 0, 0, 2), at), (3, 3)),
            "EXP": (g.exp(a), (2, 6)), "SIN": (g.sin(a), (2, 6)), "COS": (g.cos(a), (2, 6)),
            "TOPK_MASK": (g.topk_mask(a, 1, 2), (2, 6)), "IFFT2": (g.ifft2(a), (2, 6)),
            "SIGMOID": (g.sigmoid(a), (2, 6)), "TANH": (g.tanh(a), (2, 6)), "SILU": (g.silu(a), (2, 6)), "LOG": (g.log(a), (2, 6)),
            "ABS": (g.abs(a), (2, 6)), "MAXIMUM": (g.maximum(y, g.b), (T, 4)), "MINIMUM": (g.minimum(g.b, y), (T, 4)),
            "WHERE": (g.where(g.b, y, g.const((), [1])), (T, 4)), "MAX": (g.max(a, 1), (2,)), "MIN": (g.min(a), ()),
            "MEAN": (g.mean(y, -1, keepdim=True), (T, 1)), "LAYER_NORM": (g.layer_norm(y, 1e-6), (T, 4)),
        }
        self.assertEqual(set(drawn), set(pb.Op) - {"OP_UNSPECIFIED"})
        for name, (node, shape) in drawn.items():
            self.assertEqual(g.program.nodes[node.index].op, pb.Op[name])
            self.assertEqual(node.shape, shape, name)

    def test_version(self):
        """A program has the lowest version that has all that it uses."""
        def version(draw):
            g = graph()
            return g.finish(draw(g))[0].version

        def gathered(positions):
            return lambda g: g.base(g.x) + g.gather(g.b, 0, g.param("at", (4,), positions, trainable=False))

        self.assertEqual(version(lambda g: g.base(g.gelu(g.x))), 1)
        self.assertEqual(version(lambda g: g.base(g.silu(g.x))), 2)
        self.assertEqual(version(gathered(init.indices([3, 2, 1, 0]))), 1)
        self.assertEqual(version(gathered(init.integers(4))), 2)

        def for_peft_alone(g):
            y = g.base(g.x)
            g.peft("b", g.tanh(g.b))
            return y

        self.assertEqual(version(for_peft_alone), 1)

    def test_equal_operations_are_one_node(self):
        g = graph()
        self.assertEqual((g.x + g.x).index, (g.x + g.x).index)
        self.assertNotEqual(g.dropout(g.x, 0.5).index, g.dropout(g.x, 0.5).index)

    def test_mistakes(self):
        for message, draw in {
            "query of block 0: matmul: inner dimensions of [T, 6] and [2, 6] differ": lambda g, a: g.x @ a,
            "add: shapes [T, 6] and [4] do not broadcast": lambda g, a: g.x + g.b,
            "add: 1 is no node": lambda g, a: g.x + 1,
            "sum: works over the tokens": lambda g, a: g.sum(g.x, 0),
            "reshape: [T, 6] to [3, T, 2] mixes tokens": lambda g, a: g.reshape(g.x, 3, T, 2),
            "slice: 4 from 3 on does not lie within": lambda g, a: g.slice(a, 1, 3, 4),
            "parameter a: declared twice": lambda g, a: g.param("a", (1,), init.zeros),
            "parameter n: shape [0, 6]": lambda g, a: g.param("n", (0, 6), init.zeros),
            "einsum: 'ti,ri->r' sums over the tokens": lambda g, a: g.einsum("ti,ri->r", g.x, a),
            "where: shapes [T, 6] and [4] do not broadcast": lambda g, a: g.where(g.x, g.b, a),
            "layer_norm: eps is 0": lambda g, a: g.layer_norm(a, 0),
            "layer_norm: works over the tokens": lambda g, a: g.layer_norm(g.permute(g.x, 1, 0), 1e-6),
            "dropout: p is 1": lambda g, a: g.dropout(a, 1),
            "is no node of this graph": lambda g, a: g.neg(graph().x),
            "PEFT tensor k: depends on x": lambda g, a: g.peft("k", g.x),
            "output: it has shape [T, 6], want [T, 4]": lambda g, a: g.finish(g.x),
            "output: build returned None": lambda g, a: g.finish(None),
        }.items():
            with self.subTest(message), self.assertRaises(Mistake) as caught:
                g = graph()
                draw(g, g.param("a", (2, 6), init.zeros))
            self.assertIn(message, str(caught.exception))
        with self.assertRaisesRegex(Mistake, "a stream has no W"):
            Graph(stream(8)).w

    def test_a_loop_without_end_is_stopped(self):
        g = graph()
        y = g.base(g.x)
        with self.assertRaisesRegex(Mistake, "more than 4096 nodes"):
            while True:
                y = y + g.b


@dataclass
class Gain:
    start: float
    twice: bool = False

    def check(self, site):
        return [Problem("start", "too odd", "be even")] if site.in_ % 2 else []

    def build(self, g, site):
        gain = g.param("gain", (site.out,), init.constant(self.start))
        y = g.base(g.x) * gain
        g.peft("ia3_l", g.reshape(gain, site.out, 1))
        return y

    def peft_config(self, sites):
        return {"peft_type": "IA3"} if not self.twice else None


gain = Variant(Gain, name="gain", version="1.0.0", schema="")


@dataclass
class Exits:
    def build(self, g, site):
        raise SystemExit(3)


@dataclass
class Wrong:
    def build(self, g, site):
        y = g.base(g.x)
        y = y @ g.param("R", (4, 3), init.zeros)  # the line that is named
        return y


@dataclass
class Checks:
    def check(self, site):
        return [] if site.in_ % 2 == 0 else 1 / 0

    def build(self, g, site):
        return g.base(g.x)


class Aborted(Exception):
    pass


class Context:
    """What gRPC gives a call."""

    def set_trailing_metadata(self, metadata):
        pass

    def abort(self, code, message):
        raise Aborted(message)


class TestServe(unittest.TestCase):
    def test_exit_in_build(self):
        """A call is answered whatever build does (trial-plugins F5)."""
        handlers = serve._variant_calls(Variant(Exits, name="exits", version="1.0.0", schema=""))
        details = types.SimpleNamespace(method=f"/{pb.SERVICE}/Build", invocation_metadata=())
        request = pb.BuildRequest(params_json="{}", sites=[linear(8, 8)])
        with self.assertRaisesRegex(Aborted, r"panic: SystemExit: 3 \(at query of block 0\)"):
            handlers.service(details).unary_unary(request, Context())

    def test_places(self):
        """The layer of an error, and the line of an output of a wrong shape (trial-plugins F9)."""
        line = Wrong.build.__code__.co_firstlineno + 2
        for params, message in (
            (Wrong, rf"test_graph.py:{line}: query of block 0: output: it has shape \[T, 3\], want \[T, 4\]"),
            (Checks, r"panic: ZeroDivisionError: division by zero \(at key of block 0\)"),
        ):
            handlers = serve._variant_calls(Variant(params, name="x", version="1.0.0", schema=""))
            details = types.SimpleNamespace(method=f"/{pb.SERVICE}/Build", invocation_metadata=())
            request = pb.BuildRequest(params_json="{}", sites=[linear(4, 4), linear(7, 7, "key")])
            with self.subTest(params), self.assertRaisesRegex(Aborted, message):
                handlers.service(details).unary_unary(request, Context())


class TestHelp(unittest.TestCase):
    def test_pydoc(self):
        """Operations and initialisers are listed by pydoc alone (trial-plugins F5)."""
        for module, word in (("graph", "layer_norm(self, a, eps)"), ("init", "integers(bound, key=0)"), ("protocol", "version_of(program)")):
            text = pydoc.plain(pydoc.render_doc("loralab_plugin." + module))
            self.assertIn(word, text)


class TestVariant(unittest.TestCase):
    def test_equal_programs_are_one(self):
        reply = build(gain, {"start": 1}, linear(8, 8), linear(8, 8, "key"), linear(8, 10, "fc1"))
        self.assertEqual(list(reply.program_of_site), [0, 0, 1])

    def test_peft_is_apart_from_the_program(self):
        reply = build(gain, {"start": 1})
        self.assertEqual([pb.Op["RESHAPE"] in [n.op for n in p.nodes] for p in reply.programs], [False])
        self.assertEqual([n.op for n in reply.peft.of_program[0].nodes], [pb.Op["PARAM"], pb.Op["RESHAPE"]])
        self.assertFalse(build(gain, {"start": 1, "twice": True}).HasField("peft"))
        self.assertFalse(build(gain, {"start": 1}, linear(8, 8), stream(8)).HasField("peft"))

    def test_problems(self):
        one = build(gain, {"start": 1}, linear(7, 7), linear(8, 8, "key")).problems
        self.assertEqual([(p.message, p.site) for p in one], [("too odd", 0)])
        every = build(gain, {"start": 1}, linear(7, 7), linear(9, 9, "key")).problems
        self.assertEqual([(p.message, p.site) for p in every], [("too odd", -1)])

    def test_parameters_that_do_not_fit(self):
        for params, message in (
            ({}, "no parameter for start"), ({"start": 1, "stop": 2}, "no field for stop"),
            ({"start": "1"}, 'parameter start is "1", want float'), ({"start": 1, "twice": 1}, "want bool"),
        ):
            with self.subTest(params), self.assertRaisesRegex(ValueError, message):
                build(gain, params)


if __name__ == "__main__":
    unittest.main()
