"""Random programs of views, pointwise ops, reductions, products and writes in place: compiled as eager.

Memory is what may go wrong: views of views, writes through them, values that are read after they were overwritten. So
the memory of the arguments is compared as well, and what a call returns must still be there after the next one.
"""

import copy
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import flambeau as torch
from flambeau.core.tensor import wrap
from tests.compiler.comparing import assert_same, compiled_of

UNARY = ["relu", "tanh", "sigmoid", "neg", "abs", "square", "exp_small", "sin", "double", "clone", "detach"]
BINARY = ["add", "sub", "mul", "maximum", "where", "div_safe", "lerp"]
VIEWS = [
    "transpose",
    "slice",
    "step",
    "expand",
    "reshape",
    "unsqueeze",
    "select",
    "flip",
    "narrow",
    "diagonal",
    "squeeze",
    "permute",
    "flatten",
]
REDUCTIONS = ["sum", "mean", "amax", "softmax", "logsumexp", "cumsum", "var", "argmax", "all_sum"]
OTHER = ["matmul", "cat", "stack", "masked_fill", "gather_first", "pad"]
WRITES = [
    "add_",
    "mul_",
    "setitem_number",
    "setitem_row",
    "setitem_cut",
    "relu_",
    "copy_",
    "zero_row",
    "view_mul_",
    "fill_",
    "masked_fill_",
    "addcmul_",
    "iadd",
    "swap_rows",
]


@st.composite
def programs(draw):
    """(shapes of the arguments, how they lie in memory, instructions, which values come back)"""
    shape = draw(st.sampled_from([(4,), (3, 4), (4, 3), (2, 3, 4), (1, 4), (5, 1), (4, 4), (16, 8), (3, 40)]))
    count = draw(st.integers(1, 3))
    shapes = [shape] + [draw(st.sampled_from([shape, shape[-1:], (1,) * len(shape)])) for _ in range(count - 1)]
    layouts = [draw(st.sampled_from(["plain", "plain", "turned", "strided", "expanded"])) for _ in range(count)]
    kinds = st.sampled_from(UNARY + BINARY * 2 + VIEWS * 2 + REDUCTIONS + OTHER + WRITES * 2)
    steps = draw(
        st.lists(
            st.tuples(kinds, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000)), min_size=3, max_size=14
        )
    )
    results = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=3))
    return shapes, layouts, steps, results


def pick(values, n, fits=lambda v: True):
    """One of the values that fit; the last ones are more likely."""
    fitting = [v for v in values if fits(v)]
    return fitting[-1 - n % min(len(fitting), 5)] if fitting else None


def writable(v):
    return v.dtype == torch.float32 and not any(s == 0 and n > 1 for s, n in zip(v.stride(), v.shape)) and v.numel() > 0


def apply(values, op, i, j, k):
    """Run one instruction; returns its new value or None."""
    a = pick(values, i)
    f = a if a.dtype == torch.float32 else a.float()
    d = k % a.ndim if a.ndim else 0
    if op in UNARY:
        if op == "exp_small":
            return (f * 0.1).exp()
        return f * 2 + 1 if op == "double" else getattr(f, op)()
    if op in BINARY:
        b = pick(
            values,
            j,
            lambda v: (
                v.ndim == 0
                or v.shape == a.shape
                or v.shape == a.shape[-1:]
                or (v.ndim == a.ndim and all(n in (1, m) for n, m in zip(v.shape, a.shape)))
            ),
        )
        b = b.float()
        if op == "where":
            return torch.where(f > b, f, b * 0.5)
        if op == "div_safe":
            return f / (b.abs() + 1)
        return torch.lerp(f, b.expand_as(f), 0.3) if op == "lerp" else getattr(torch, op)(f, b)
    if op in VIEWS:
        return view(a, op, d, j, k)
    if op in REDUCTIONS:
        if a.ndim == 0 or a.shape[d] == 0:
            return None
        if op == "all_sum":
            return f.sum()
        if op == "var":
            return f.var(d, unbiased=False)
        return getattr(f, op)(d)
    if op in WRITES:
        return write(values, op, i, j, k)
    if op == "matmul":
        b = pick(values, j, lambda v: v.ndim == 2 and a.ndim >= 1 and v.shape[0] == a.shape[-1])
        return None if b is None or a.ndim == 0 else f @ b.float()
    if op in ("cat", "stack"):
        b = pick(values, j, lambda v: v.shape == a.shape)
        return None if a.ndim == 0 or a.numel() > 2000 else getattr(torch, op)([f, b.float(), f], d)
    if op == "masked_fill":
        return f.masked_fill(f > 0, float(k % 3))
    if op == "gather_first":
        return None if a.ndim == 0 or a.shape[0] == 0 else f.index_select(0, torch.tensor([0, a.shape[0] - 1, 0]))
    return torch.nn.functional.pad(f, (1, 2)) if a.ndim and a.numel() < 2000 else None


def view(a, op, d, j, k):
    if a.ndim == 0:
        return a.unsqueeze(0)
    n = a.shape[d]
    if op == "transpose":
        return a.transpose(d, j % a.ndim)
    if op == "permute":
        return a.permute(*np.roll(range(a.ndim), j % a.ndim).tolist())
    if op == "slice":
        return a[tuple(slice(1, None) if m > 1 else slice(None) for m in a.shape)]
    if op == "step":
        return a[::2]
    if op == "expand":
        return a.unsqueeze(0).expand(2, *a.shape) if a.ndim < 4 and a.numel() < 2000 else None
    if op == "reshape":
        return a.reshape(-1) if k % 2 else a.reshape(*reversed(a.shape))
    if op == "flatten":
        return a.flatten()
    if op == "unsqueeze":
        return a.unsqueeze(d) if a.ndim < 4 else None
    if op == "squeeze":
        return a.squeeze()
    if op == "select":
        return a.select(d, j % n) if n else None
    if op == "narrow":
        return a.narrow(d, j % n, 1 + k % (n - j % n)) if n else None
    if op == "diagonal":
        return a.diagonal(0, 0, 1) if a.ndim >= 2 else None
    return a.flip(d)


def write(values, op, i, j, k):
    a = pick(values, i, writable)
    if a is None:
        return None
    b = pick(
        values, j, lambda v: v.dtype == torch.float32 and (v.shape == a.shape or v.ndim == 0 or v.shape == a.shape[-1:])
    )
    if op in ("add_", "mul_", "copy_", "iadd"):
        if b is None:
            return None
        if op == "mul_":
            a.mul_(b.clamp(-2, 2))
        elif op == "iadd":
            a += b
        else:
            getattr(a, op)(b)
    elif op == "addcmul_":
        c = a.clone() if b is None or b.shape != a.shape else b
        a.addcmul_(c, c, value=-0.1)
    elif op == "relu_":
        torch.relu_(a)
    elif op == "fill_":
        a.fill_(float(k % 5))
    elif op == "masked_fill_":
        a.masked_fill_(a < 0, 0.5)
    elif a.ndim == 0:
        return None
    elif op == "setitem_number":
        a[k % a.shape[0]] = 2.5
    elif op == "setitem_row":
        a[0] = a[a.shape[0] - 1] * 2
    elif op == "setitem_cut":
        a[..., : 1 + k % a.shape[-1]] = -1.0
    elif op == "zero_row":
        a.select(-1, k % a.shape[-1]).zero_()
    elif op == "swap_rows":
        kept = a[0].clone()
        a[0] = a[-1]
        a[-1] = kept
    else:
        a.t().mul_(0.5) if a.ndim == 2 else a.view_as(a).mul_(0.5)
    return None


def function_of(steps, results):
    def run(*arguments):
        values = list(arguments)
        for step in steps:
            made = apply(values, *step)
            if made is not None and made.numel() <= 20000:
                values.append(made)
        return [pick(values, n) for n in results], values[-1]

    return run


def argument(stream, shape, layout):
    values = stream.uniform(-1, 1, shape).astype(np.float32)
    if layout == "turned" and len(shape) > 1:
        return wrap(np.ascontiguousarray(values.swapaxes(0, 1))).transpose(0, 1)
    if layout == "strided":
        return wrap(np.repeat(values, 2, 0))[::2]
    if layout == "expanded" and shape[0] > 1:
        return wrap(values[:1]).expand(*shape)
    return wrap(values)


def check(program):
    shapes, layouts, steps, results = program
    function = function_of(steps, results)
    compiled = torch.compile(function)
    kept = []
    for seed in range(3):
        stream = np.random.default_rng(seed)
        arguments = [argument(stream, *described) for described in zip(shapes, layouts)]
        twins = copy.deepcopy(arguments)
        try:
            expected = function(*twins)
        except RuntimeError:  # a write to an expanded tensor, two views of one memory: refused by both
            with pytest.raises(RuntimeError):
                compiled(*arguments)
            return
        found = compiled(*arguments)
        assert_same([found, arguments], [expected, twins], 2e-5)
        kept.append((found[1], found[1].clone()))
    # Results are as they were, unless they are arguments.
    for result, values in kept[:-1]:
        assert_same(result, values)
    compiled = compiled_of(compiled)
    COUNTS["eager" if compiled.eager else "native"] += 1
    for reason in compiled.eager.values():
        REASONS[reason] = REASONS.get(reason, 0) + 1


EXAMPLES = 25  # for each number of threads
COUNTS = {"native": 0, "eager": 0}
REASONS: dict[str, int] = {}
# Failures are reported as found: to make them smaller takes many compilations (add Phase.shrink by hand).
OPTIONS = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
}


@pytest.mark.parametrize("threads", [1, 2])
def test_random_programs(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings(max_examples=EXAMPLES, **OPTIONS)(given(programs())(check))()
    finally:
        torch.set_num_threads(before)
    assert COUNTS["native"] > 8 * COUNTS["eager"], REASONS
