"""How parameters start.

Random ones draw from a stream of their own for each seed, site and parameter,
so order never matters. Those of W need a layer with a weight.
"""

from .protocol import Init, Kind


def _of(kind, **fields):
    return Init(kind=Kind[kind], **fields)


zeros = _of("ZEROS")
ones = _of("ONES")
eye = _of("EYE")
row_norm = _of("ROW_NORM")  # [out], the norms of the rows of W
col_norm = _of("COL_NORM")  # [in], the norms of the columns of W


def constant(value):
    """Every entry is value."""
    return _of("CONSTANT", a=value)


def uniform(a):
    """U(-a, a)."""
    return _of("UNIFORM", a=a)


def normal(std):
    """N(0, std²)."""
    return _of("NORMAL", a=std)


def kaiming_uniform(a=5**0.5, fan=None):
    """U(±√(6/((1+a²)·fan))); fan is the last dimension unless given."""
    return _of("KAIMING_UNIFORM", a=a) if fan is None else _of("KAIMING_UNIFORM", a=a, fan=fan)


def xavier_uniform():
    """U(±√(6/(fan_in+fan_out))) over the last two dimensions."""
    return _of("XAVIER_UNIFORM")


def orthogonal(scale=1.0):
    """Rows or columns orthonormal, times scale."""
    return _of("ORTHOGONAL", a=scale)


def svd_left(power=0.0, scale=1.0, last=False):
    """[out, r] = U·Sᵖ·scale of W = U S Vᵀ, the first r, or the last."""
    return _of("SVD_LEFT", power=power, a=scale, last=last)


def svd_right(power=0.0, scale=1.0, last=False):
    """[r, in] = Sᵖ·Vᵀ·scale."""
    return _of("SVD_RIGHT", power=power, a=scale, last=last)


def svd_singular(power=1.0, scale=1.0, last=False):
    """[r] = Sᵖ·scale."""
    return _of("SVD_SINGULAR", power=power, a=scale, last=last)


def seeded(inner, max_shape, key=0):
    """A block of one matrix drawn with inner at max_shape, shared by the model."""
    return _of("SEEDED", inner=inner, max_shape=max_shape, key=key)


def repeat(inner, times, dim=0):
    """inner at a shape that is smaller in dim, each entry then repeated along it."""
    return _of("REPEAT", inner=inner, k=times, dim=dim)


def permutation(bound):
    """Positions: a seeded permutation of 0 to bound-1, cut to the shape."""
    return _of("PERMUTATION", bound=bound)


def integers(bound, key=0):
    """Positions, each drawn from 0 to bound-1 for itself: some come more than once.
    With a key they depend on it alone, else on seed, site and parameter. gather
    takes them, scatter does not."""
    return _of("INTEGERS", bound=bound, key=key)


def topk_abs_w():
    """Positions of the largest |W|, flat."""
    return _of("TOPK_ABS_W")


def values(numbers):
    """These, row by row."""
    return _of("VALUES", values=numbers)


def indices(positions):
    """Positions, as they are."""
    return _of("INDICES", indices=positions)


