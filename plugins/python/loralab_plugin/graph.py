"""The graph of an adapted layer, drawn one operation at a time.

Each operation knows the shape of its result, so that a mistake is an error
where it is made. runner checks the finished program again, and more of it.
"""

from math import prod

from . import protocol as pb


T = -1  # the number of tokens, in shapes
MAX_NODES = 4096


class Mistake(Exception):
    """A mistake of the variant in a graph."""


def shape_text(shape):
    return "[" + ", ".join("T" if d == T else str(d) for d in shape) + "]"


def site_name(site):
    return site.name if site.kind == pb.SiteKind["PATCH"] else f"{site.name} of block {site.block}"


class Node:
    """A value in a graph. + - * / @ and - work on nodes; * and / with numbers too."""

    __slots__ = ("graph", "index", "shape", "of_x", "random")

    def __init__(self, graph, index, shape, of_x, random):
        self.graph, self.index, self.shape, self.of_x, self.random = graph, index, tuple(shape), of_x, random

    def __repr__(self):
        return f"%{self.index} : {shape_text(self.shape)}"

    @property
    def T(self):
        """The last two dimensions swapped."""
        return self.graph.t(self)

    def __add__(self, other):
        return self.graph.add(self, other)

    def __sub__(self, other):
        return self.graph.sub(self, other)

    def __mul__(self, other):
        return self.graph.mul(self, other) if isinstance(other, Node) else self.graph.scale(other, self)

    def __rmul__(self, number):
        return self.graph.scale(number, self)

    def __truediv__(self, other):
        return self.graph.div(self, other) if isinstance(other, Node) else self.graph.scale(1 / other, self)

    def __neg__(self):
        return self.graph.neg(self)

    def __matmul__(self, other):
        return self.graph.matmul(self, other)


class Graph:
    """The adapted layer of one site. Equal operations on equal inputs are one
    node. A dimension may be counted from the end: -1 is the last one."""

    def __init__(self, site):
        self.site = site  # protocol.Site
        self.program = pb.Program()
        self.tensors = []  # for PEFT
        self.until = None  # the node at which drawing stops, as the output of a wrong shape
        self._same = {}

    # ---- where values come from ----

    @property
    def x(self):
        """The input of the layer, [T, in]."""
        return self._node("X", (), (T, getattr(self.site, "in")), of_x=True)

    def base(self, x):
        """The frozen layer applied to x, [T, in] to [T, out]; of a stream, x."""
        want = (T, getattr(self.site, "in"))
        self._want(x.shape == want, "base", f"input has shape {shape_text(x.shape)}, want {shape_text(want)}")
        return self._node("BASE", (x,), (T, self.site.out))

    @property
    def w(self):
        """The weight of the layer, [out, in]. A stream has none."""
        self._want(self.site.kind != pb.SiteKind["STREAM"], "weight", "a stream has no W")
        return self._node("WEIGHT", (), (self.site.out, getattr(self.site, "in")))

    @property
    def b(self):
        """The bias of the layer, [out], if site.bias."""
        self._want(self.site.bias, "bias", "this site has no bias")
        return self._node("BIAS", (), (self.site.out,))

    def const(self, shape, values):
        """A fixed tensor, its values row by row."""
        self._want(len(values) == prod(shape), "const", f"{len(values)} values for shape {shape_text(shape)}")
        return self._node("CONST", (), shape, ints=shape, floats=values)

    def eye(self, n):
        """The identity matrix, [n, n]."""
        return self._node("EYE", (), (n, n), ints=[n])

    def param(self, name, shape, init, *, trainable=True, derived=False, scope="site", lr=1.0, decay=1.0, stream=""):
        """A parameter. scope is site, block or model: who shares it. One that is
        derived is not stored, because its initialiser gives it again."""
        self._want(all(p.name != name for p in self.program.params), f"parameter {name}", "declared twice")
        self._want(
            all(isinstance(d, int) and d >= 1 for d in shape), f"parameter {name}",
            f"shape {list(shape)}, want whole numbers of at least 1",
        )
        self._want(scope.upper() in pb.Scope, f"parameter {name}", f"scope {scope!r}, want site, block or model")
        p = self.program.params.add(
            name=name, shape=shape, init=init, trainable=trainable and not derived, derived=derived,
            scope=pb.Scope[scope.upper()], stream=stream,
        )
        if lr != 1:
            p.lr_mult = lr
        if decay != 1:
            p.decay_mult = decay
        return self._node("PARAM", (), shape, param=name)

    # ---- element by element ----

    def add(self, a, b):
        """a + b; broadcasts as NumPy does, like sub, mul and div."""
        return self._broadcast("ADD", a, b)

    def sub(self, a, b):
        """a − b."""
        return self._broadcast("SUB", a, b)

    def mul(self, a, b):
        """a · b, element by element."""
        return self._broadcast("MUL", a, b)

    def div(self, a, b):
        """a / b, element by element."""
        return self._broadcast("DIV", a, b)

    def neg(self, a):
        """−a."""
        return self._node("NEG", (a,), a.shape)

    def scale(self, number, a):
        """number · a; a itself if it is 1."""
        return a if number == 1 else self._node("SCALE", (a,), a.shape, number=float(number))

    def sqrt(self, a):
        """The square root."""
        return self._node("SQRT", (a,), a.shape)

    def clamp(self, a, least, most=None):
        """a kept within least and most, or at least least."""
        return self._node("CLAMP", (a,), a.shape, floats=[least] if most is None else [least, most])

    def relu(self, a):
        """max(a, 0)."""
        return self._node("RELU", (a,), a.shape)

    def gelu(self, a):
        """a · Φ(a), exact."""
        return self._node("GELU", (a,), a.shape)

    def exp(self, a):
        """eᵃ."""
        return self._node("EXP", (a,), a.shape)

    def sin(self, a):
        """The sine."""
        return self._node("SIN", (a,), a.shape)

    def cos(self, a):
        """The cosine."""
        return self._node("COS", (a,), a.shape)

    def sigmoid(self, a):
        """1/(1+e⁻ᵃ). Written with exp it would overflow for an a of −100."""
        return self._node("SIGMOID", (a,), a.shape)

    def tanh(self, a):
        """The hyperbolic tangent."""
        return self._node("TANH", (a,), a.shape)

    def silu(self, a):
        """a · sigmoid(a)."""
        return self._node("SILU", (a,), a.shape)

    def log(self, a):
        """The natural logarithm; clamp keeps a away from 0."""
        return self._node("LOG", (a,), a.shape)

    def abs(self, a):
        """|a|, whose gradient at 0 is 0."""
        return self._node("ABS", (a,), a.shape)

    def maximum(self, a, b):
        """The larger of a and b, element by element; broadcasts as add does."""
        return self._broadcast("MAXIMUM", a, b)

    def minimum(self, a, b):
        """The smaller of a and b, element by element; broadcasts as add does."""
        return self._broadcast("MINIMUM", a, b)

    def where(self, condition, a, b):
        """a where condition is greater than 0, else b; broadcasts as add does. No
        gradient passes to condition. The branch that is left out has to be
        finite too, or its gradient is NaN."""
        return self._broadcast("WHERE", condition, a, b)

    def layer_norm(self, a, eps):
        """The last dimension brought to mean 0 and variance 1; eps is added to the
        variance. It has no weight and no bias: mul and add them."""
        self._want(eps > 0, "layer_norm", f"eps is {eps}, want a positive number")
        self._own("layer_norm", a, -1)
        return self._node("LAYER_NORM", (a,), a.shape, number=float(eps))

    def dropout(self, a, p):
        """Zeroes entries with probability p while training; a itself if p is 0.
        Each call draws for itself."""
        self._want(0 <= p < 1, "dropout", f"p is {p}, want 0 ≤ p < 1")
        return a if p == 0 else self._node("DROPOUT", (a,), a.shape, random=True, number=float(p))

    def detach(self, a):
        """a, through which no gradient passes."""
        return self._node("DETACH", (a,), a.shape)

    # ---- products ----

    def matmul(self, a, b):
        """The matrix product over the last two dimensions."""
        s, r = a.shape, b.shape
        self._want(
            len(s) > 1 and len(r) > 1, "matmul",
            f"shapes {shape_text(s)} and {shape_text(r)}, want at least 2 dimensions each",
        )
        self._want(s[-1] == r[-2], "matmul", f"inner dimensions of {shape_text(s)} and {shape_text(r)} differ")
        self._want(s[-1] != T, "matmul", f"sums over the tokens of {shape_text(s)} and {shape_text(r)}")
        return self._node("MATMUL", (a, b), self._aligned("matmul", s[:-2], r[:-2]) + (s[-2], r[-1]))

    def einsum(self, equation, *inputs):
        """An equation with one letter for each dimension and the result spelled
        out: "tin,ijrn->tijr"."""
        left, arrow, right = equation.partition("->")
        terms = left.split(",")
        self._want(arrow and len(terms) == len(inputs), "einsum", f"{equation!r} for {len(inputs)} inputs")
        size = {}
        for term, node in zip(terms, inputs):
            self._want(
                len(term) == len(node.shape) and len(set(term)) == len(term), "einsum",
                f"{equation!r}: {term!r} for shape {shape_text(node.shape)}",
            )
            for letter, d in zip(term, node.shape):
                self._want(size.setdefault(letter, d) == d, "einsum", f"{equation!r}: {letter} is {size[letter]} and {d}")
        self._want(set(right) <= set(size), "einsum", f"{equation!r}: the result has letters of no input")
        self._want(
            all(d != T or letter in right for letter, d in size.items()), "einsum", f"{equation!r} sums over the tokens",
        )
        return self._node("EINSUM", inputs, [size[letter] for letter in right], text=equation)

    def kron(self, a, b):
        """The Kronecker product."""
        self._want(len(a.shape) == len(b.shape), "kron", f"shapes {shape_text(a.shape)} and {shape_text(b.shape)}")
        shape = []
        for d, e in zip(a.shape, b.shape):
            self._want(T not in (d, e) or 1 in (d, e), "kron", "repeats the tokens")
            shape.append(T if T in (d, e) else d * e)
        return self._node("KRON", (a, b), shape)

    def solve(self, a, b):
        """Z with a · Z = b, a being square in its last two dimensions."""
        s, r = a.shape, b.shape
        self._want(
            len(s) > 1 and len(r) > 1 and s[-1] == s[-2] != T and r[-2] == s[-1], "solve",
            f"shapes {shape_text(s)} and {shape_text(r)}, want square matrices and as many rows",
        )
        return self._node("SOLVE", (a, b), self._aligned("solve", s[:-2], r[:-2]) + (s[-1], r[-1]))

    # ---- shapes ----

    def reshape(self, a, *shape):
        """a with another shape; T stands for the tokens, which stay apart."""
        own = [d for d in a.shape if d != T]
        self._want(
            shape.count(T) == a.shape.count(T) and prod(own) == prod(d for d in shape if d != T), "reshape",
            f"{shape_text(a.shape)} to {shape_text(shape)}",
        )
        if T in shape:
            before = prod(a.shape[: a.shape.index(T)])
            self._want(
                prod(shape[: shape.index(T)]) == before, "reshape",
                f"{shape_text(a.shape)} to {shape_text(shape)} mixes tokens: permute first",
            )
        return self._node("RESHAPE", (a,), shape, ints=shape)

    def permute(self, a, *dims):
        """The dimensions in another order."""
        dims = self._dims(a, dims)
        self._want(sorted(dims) == list(range(len(a.shape))), "permute", f"{dims} of shape {shape_text(a.shape)}")
        return self._node("PERMUTE", (a,), [a.shape[d] for d in dims], ints=dims)

    def t(self, a):
        """The last two dimensions swapped."""
        n = len(a.shape)
        self._want(n > 1, "t", f"shape {shape_text(a.shape)}, want at least 2 dimensions")
        return self.permute(a, *range(n - 2), n - 1, n - 2)

    def slice(self, a, dim, start, length):
        """length entries of a dimension, from start on."""
        d = self._own("slice", a, dim)
        self._want(
            start >= 0 and length >= 1 and start + length <= a.shape[d], "slice",
            f"{length} from {start} on does not lie within dimension {d} of {shape_text(a.shape)}",
        )
        return self._node("SLICE", (a,), _with(a.shape, d, length), ints=[d, start, length])

    def concat(self, dim, *inputs):
        """Joined along a dimension."""
        self._want(inputs, "concat", "no inputs")
        d = self._own("concat", inputs[0], dim)
        for i in inputs:
            self._want(
                len(i.shape) == len(inputs[0].shape) and _with(i.shape, d, 0) == _with(inputs[0].shape, d, 0), "concat",
                f"{shape_text(i.shape)} to {shape_text(inputs[0].shape)} along dimension {d}",
            )
        return self._node("CONCAT", inputs, _with(inputs[0].shape, d, sum(i.shape[d] for i in inputs)), ints=[d])

    def repeat(self, a, *times):
        """a as a whole, so many times for each dimension."""
        self._want(
            len(times) == len(a.shape) and all(n >= 1 and (d != T or n == 1) for d, n in zip(a.shape, times)), "repeat",
            f"{list(times)} of shape {shape_text(a.shape)}",
        )
        return self._node("REPEAT", (a,), [d if d == T else d * n for d, n in zip(a.shape, times)], ints=times)

    def sum(self, a, *dims, keepdim=False):
        """The sum over dimensions, all of them if none is given."""
        return self._reduce("SUM", a, dims, keepdim)

    def norm(self, a, *dims, keepdim=False):
        """The 2-norm over dimensions, all of them if none is given."""
        return self._reduce("NORM", a, dims, keepdim)

    def max(self, a, *dims, keepdim=False):
        """The largest entry over dimensions, all of them if none is given."""
        return self._reduce("MAX", a, dims, keepdim)

    def min(self, a, *dims, keepdim=False):
        """The smallest entry over dimensions, all of them if none is given."""
        return self._reduce("MIN", a, dims, keepdim)

    def mean(self, a, *dims, keepdim=False):
        """The mean over dimensions, all of them if none is given."""
        return self._reduce("MEAN", a, dims, keepdim)

    def softmax(self, a, dim):
        """Softmax over one dimension."""
        return self._node("SOFTMAX", (a,), a.shape, ints=[self._own("softmax", a, dim)])

    def topk_mask(self, a, dim, k):
        """1 at the k largest along a dimension, else 0."""
        d = self._own("topk_mask", a, dim)
        self._want(1 <= k <= a.shape[d], "topk_mask", f"k is {k}, want 1 to {a.shape[d]}")
        return self._node("TOPK_MASK", (a,), a.shape, ints=[d, k])

    def ifft2(self, a):
        """The real part of the inverse 2-D Fourier transform of the last two
        dimensions."""
        self._want(len(a.shape) > 1 and T not in a.shape[-2:], "ifft2", f"shape {shape_text(a.shape)}")
        return self._node("IFFT2", (a,), a.shape)

    def gather(self, a, dim, positions):
        """The entries of a dimension at the positions of a parameter."""
        d = self._own("gather", a, dim)
        return self._node("GATHER", (a, positions), _with(a.shape, d, positions.shape[0]), ints=[d])

    def scatter(self, shape, values, positions):
        """Zeros but for values, written at flat positions."""
        self._want(
            values.shape == positions.shape, "scatter",
            f"values have shape {shape_text(values.shape)}, positions {shape_text(positions.shape)}",
        )
        return self._node("SCATTER", (values, positions), shape, ints=shape)

    # ---- what goes with the output ----

    def aux(self, name, weight, a):
        """Adds weight · a to the loss, a being a scalar."""
        self.program.aux.add(name=name, weight=weight, node=a.index)

    def peft(self, key, node, *, model=False):
        """Marks a node, computed from parameters, W and b, as a tensor that PEFT
        stores below the module, or with model once. What only such tensors need
        is no part of the program. Draw y first and these last."""
        self._want(not node.of_x, f"PEFT tensor {key}", "depends on x")
        self._want(not node.random, f"PEFT tensor {key}", "goes through dropout, which is random")
        self._want(all(t.key != key for t in self.tensors), f"PEFT tensor {key}", "comes twice")
        self.tensors.append(pb.PeftTensor(key=key, node=node.index, model=model))

    # ---- how ----

    def _fail(self, what, message):
        raise Mistake(f"{site_name(self.site)}: {what}: {message}")

    def _want(self, ok, what, message):
        if not ok:
            self._fail(what, message)

    def _want_output(self, y):
        want = (T, self.site.out)
        self._want(y.shape == want, "output", f"it has shape {shape_text(y.shape)}, want {shape_text(want)}")

    def _node(self, op, inputs, shape, *, of_x=False, random=False, **attributes):
        for i in inputs:
            self._want(isinstance(i, Node) and i.graph is self, op.lower(), f"input {i!r} is no node of this graph")
        n = pb.Node(op=pb.Op[op], inputs=[i.index for i in inputs], **attributes)
        of_x = of_x or any(i.of_x for i in inputs)
        drops = random or any(i.random for i in inputs)
        key = n.SerializeToString(deterministic=True)
        if random or key not in self._same:
            self._want(len(self.program.nodes) < MAX_NODES, op.lower(), f"more than {MAX_NODES} nodes")
            self._same[key] = Node(self, len(self.program.nodes), shape, of_x, drops)
            if self.until == len(self.program.nodes):
                self._want_output(self._same[key])
            self.program.nodes.append(n)
        return self._same[key]

    def _broadcast(self, op, *inputs):
        shape = ()
        for i in inputs:
            self._want(isinstance(i, Node), op.lower(), f"{i!r} is no node; a number is const or scale")
            shape = self._aligned(op.lower(), shape, i.shape)
        return self._node(op, inputs, shape)

    def _aligned(self, op, s, r):
        """Aligned from the right, as NumPy does; T only meets T or 1."""
        n = max(len(s), len(r))
        out = []
        for d, e in zip((1,) * (n - len(s)) + tuple(s), (1,) * (n - len(r)) + tuple(r)):
            self._want(d == e or 1 in (d, e), op, f"shapes {shape_text(s)} and {shape_text(r)} do not broadcast")
            out.append(e if d == 1 else d)
        return tuple(out)

    def _dims(self, a, dims):
        return [d + len(a.shape) if d < 0 else d for d in dims]

    def _own(self, op, a, dim):
        """A dimension other than that of the tokens."""
        d = dim + len(a.shape) if dim < 0 else dim
        self._want(0 <= d < len(a.shape), op, f"dimension {dim} of shape {shape_text(a.shape)}")
        self._want(a.shape[d] != T, op, f"works over the tokens (dimension {d} of {shape_text(a.shape)})")
        return d

    def _reduce(self, op, a, dims, keepdim):
        dims = [self._own(op.lower(), a, d) for d in dims or range(len(a.shape))]
        self._want(len(set(dims)) == len(dims), op.lower(), f"dimensions {dims}, one comes twice")
        shape = [1 if i in dims else d for i, d in enumerate(a.shape) if keepdim or i not in dims]
        return self._node(op, (a,), shape, ints=dims, keepdim=keepdim)

    def finish(self, y):
        """The program with output y and, apart from it, what PEFT stores."""
        self._want(isinstance(y, Node) and y.graph is self, "output", f"build returned {y!r}, want a node of its graph")
        self._want_output(y)
        nodes = list(self.program.nodes)
        runs = _needed(nodes, [y.index, *(a.node for a in self.program.aux)])
        stored = _needed(nodes, [t.node for t in self.tensors])
        # What neither needs stays, where runner warns of it.
        kept, at = _take(nodes, [r or not s for r, s in zip(runs, stored)])
        del self.program.nodes[:]
        self.program.nodes.extend(kept)
        self.program.output = at[y.index]
        for a in self.program.aux:
            a.node = at[a.node]
        self.program.version = pb.version_of(self.program)
        if not self.tensors:
            return self.program, None
        kept, at = _take(nodes, stored)
        for t in self.tensors:
            t.node = at[t.node]
        return self.program, pb.PeftTensors(nodes=kept, tensors=self.tensors)


def _with(shape, d, size):
    return tuple(size if i == d else n for i, n in enumerate(shape))


def _needed(nodes, roots):
    need = [False] * len(nodes)
    for r in roots:
        need[r] = True
    for i in reversed(range(len(nodes))):
        if need[i]:
            for j in nodes[i].inputs:
                need[j] = True
    return need


def _take(nodes, wanted):
    taken, at = [], {}
    for i, n in enumerate(nodes):
        if wanted[i]:
            at[i] = len(taken)
            copy = pb.Node()
            copy.CopyFrom(n)
            copy.inputs[:] = [at[j] for j in n.inputs]
            taken.append(copy)
    return taken, at
