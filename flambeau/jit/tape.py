"""A tape: the list of primitive calls that one run of a function made, and how it runs again.

A tape is what `trace` makes and `save` writes. Views are calls like any other, writing in place is an entry of its own,
so that a tape runs with gradients as the function did, and other sizes of a batch go through it.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flambeau.core import recording
from flambeau.core.dispatch import REGISTRY
from flambeau.core.inplace import assign
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, plain


@dataclass(frozen=True)
class Var:
    """The value number `number` of a tape."""

    number: int


@dataclass
class Call:
    """One entry.

    kind: "op" (`name` is that of a primitive), "assign" (inputs[0] is overwritten with inputs[1]), "draw" (random
    numbers of kind `name` over inputs[0]), "detach" (inputs[0] without history), "check" (inputs[0] must lie within
    bounds) or "script" (`program` with the arguments inputs[0], or the method `name` of the submodule `owner`).
    """

    kind: str
    name: str
    inputs: list[Any]
    attrs: dict[str, Any]
    outputs: list[int | None]
    quiet: bool = False  # made under no_grad
    shapes: list[tuple[int, ...] | None] = field(default_factory=list)  # of its tensors, when it was recorded
    plain: list[bool] = field(default_factory=list)  # outputs that are contiguous to who asks, whatever kernels make
    line: str = ""
    program: Any = None
    owner: str = ""
    result: Any = None  # the nesting of what a script returns


@dataclass
class Tape:
    """Calls in order. Values 0 … n - 1 are the tensor arguments, in the order of `arguments`."""

    arguments: Any = None  # the nesting of arguments: see `nest`
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    attributes: dict[int, str] = field(default_factory=dict)  # value -> dotted name of a parameter or buffer
    constants: dict[int, Tensor] = field(default_factory=dict)
    fresh: set[int] = field(default_factory=set)  # constants that it writes to or returns: copied for every run
    calls: list[Call] = field(default_factory=list)
    result: Any = None
    count: int = 0

    def run(self, tensors: Sequence[Tensor], attribute: Callable[[str], Tensor], module: Any = None) -> Any:
        """The result for these tensors. RuntimeError if the tape does not hold for their shapes."""
        values: dict[int, Any] = dict(enumerate(tensors))
        for number, name in self.attributes.items():
            values[number] = attribute(name)
        for number, constant in self.constants.items():
            values[number] = constant.clone() if number in self.fresh else constant
        usual = [tuple(t.shape) for t in tensors] == self.shapes
        for call in self.calls:
            try:
                if call.kind == "script":
                    run_script(call, values, module)
                else:
                    perform(call, values, usual)
            except Exception as error:
                if usual:
                    raise
                place = f"{call.name} ({call.line})" if call.line else call.name
                raise RuntimeError(
                    f"this trace was made for inputs of shape {_shown(self.shapes)} and does not hold for "
                    f"{_shown([tuple(t.shape) for t in tensors])}: {place}: {error}"
                ) from error
        return unnest(self.result, values)

    def names(self) -> set[str]:
        """The parameters and buffers that it reads or writes."""
        return set(self.attributes.values())

    @property
    def has_scripts(self) -> bool:
        """Whether scripts with branches of their own are part of it."""
        return any(call.kind == "script" for call in self.calls)


def _shown(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)


# ---- nested arguments and results ------------------------------------------------------------------


def nest(tree: Any, place: Callable[[Tensor], int]) -> Any:
    """The nesting of tuples, lists and dicts with `Var`s for tensors. RuntimeError for other objects in it."""
    if isinstance(tree, Tensor):
        return Var(place(tree))
    if type(tree) in (tuple, list):
        return type(tree)(nest(item, place) for item in tree)
    if isinstance(tree, tuple):
        return tuple(nest(item, place) for item in tree)
    if isinstance(tree, dict):
        return {key: nest(item, place) for key, item in tree.items()}
    if tree is None or isinstance(tree, (bool, int, float, complex, str)):
        return tree
    raise RuntimeError(f"only tensors, numbers, strings and tuples, lists and dicts of them can be traced through; got "
                       f"a {type(tree).__name__}")


def fits(nesting: Any, tree: Any, found: dict[int, Tensor]) -> bool:
    """Whether `tree` is nested like `nesting`, with the same numbers and strings; its tensors go into `found`."""
    if type(nesting) is Var:
        if isinstance(tree, Tensor):
            found[nesting.number] = tree
        return isinstance(tree, Tensor)
    if isinstance(nesting, dict):
        return isinstance(tree, dict) and nesting.keys() == tree.keys() and all(
            fits(item, tree[key], found) for key, item in nesting.items())
    if isinstance(nesting, (tuple, list)):
        return isinstance(tree, type(nesting)) and len(tree) == len(nesting) and all(
            fits(item, one, found) for item, one in zip(nesting, tree))
    # 1, 1.0 and True are equal, but what they do to dtypes is not; nan is nan.
    return type(tree) is type(nesting) and (tree == nesting or repr(tree) == repr(nesting))


def mapped(tree: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The nesting with `function` of each tensor."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, (tuple, list)):
        items = [mapped(item, function) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if isinstance(tree, dict):
        return {key: mapped(item, function) for key, item in tree.items()}
    return tree


def unnest(tree: Any, values: Any) -> Any:
    """The reverse: `values[n]` for each `Var(n)`."""
    if type(tree) is Var:
        return values[tree.number]
    if type(tree) in (tuple, list):
        return type(tree)(unnest(item, values) for item in tree)
    if type(tree) is dict:
        return {key: unnest(item, values) for key, item in tree.items()}
    return tree


def vars_in(tree: Any) -> list[Var]:
    """All variables of a nesting."""
    if type(tree) is Var:
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [v for item in tree for v in vars_in(item)] if isinstance(tree, (tuple, list)) else []


# ---- running one call --------------------------------------------------------------------------------


def find_op(name: str) -> Any:
    """The primitive of that name; the families of ops that are not loaded yet are. RuntimeError if there is none."""
    if name not in REGISTRY:
        from flambeau import ops

        for found in pkgutil.iter_modules(ops.__path__):
            importlib.import_module(f"flambeau.ops.{found.name}")
        importlib.import_module("flambeau.vision.ops")
    if name not in REGISTRY:
        raise RuntimeError(f"there is no operation named {name!r}")
    return REGISTRY[name]


def perform(call: Call, values: dict[int, Any], usual: bool = True) -> None:
    """Do what a call says; `usual`: with the shapes it was recorded with."""
    given = [values[x.number] if type(x) is Var else x for x in call.inputs]
    before = modes.grad
    if call.quiet:
        modes.grad = False
    try:
        if call.kind == "op":
            attrs = call.attrs if usual else adapted(call, given)
            op = REGISTRY[call.name]
            guard = GUARDS.get(call.name)
            if guard is not None and not guard(given, attrs):
                raise RuntimeError(f"{call.name} with attributes that do not fit its operands: the trace is damaged")
            if op.view and given[0]._hidden:
                plain(given[0])  # views are those of the order that the user knows of
            if call.name == "view" and not given[0]._array.flags.c_contiguous:
                made = given[0].reshape(attrs["shape"])  # `reshape` and `contiguous` of dense memory leave a view
            else:
                made = op.function(*given, **attrs)
            for i, (number, t) in enumerate(zip(call.outputs, (made,) if isinstance(made, Tensor) else made)):
                if number is not None:
                    values[number] = t
                    if call.plain and call.plain[i] and not t._array.flags.c_contiguous:
                        t._hidden = True
        elif call.kind == "assign":
            assign(given[0], given[1])
        elif call.kind == "detach":
            (number,) = call.outputs
            assert number is not None
            values[number] = given[0].detach()
        elif call.kind == "draw":
            DRAWS[call.name](given[0], **call.attrs)
        else:
            check(given[0], **call.attrs)
    finally:
        modes.grad = before


def run_script(call: Call, values: dict[int, Any], module: Any) -> None:
    """Call a script, whose branches are those of these values."""
    args, kwargs = unnest(call.inputs[0], values)
    before, modes.grad = modes.grad, modes.grad and not call.quiet
    try:
        if call.program is None:
            owner = module.get_submodule(call.owner)
            result = owner.__dict__["_programs"][call.name](owner, args, kwargs)
        else:
            result = call.program(None, args, kwargs)
    finally:
        modes.grad = before
    if not fits(call.result, result, values):
        raise RuntimeError(f"the script {call.name} returned something of another kind than when it was traced")


def _scan_fits(given: list[Any], attrs: dict[str, Any]) -> bool:
    """Whether the sizes of a recurrence are those of its operands."""
    sizes, (gates, state) = attrs["sizes"], given[:2]
    weights = given[2] if given[2].ndim == 2 and given[2].shape[0] == gates.shape[1] else given[3]
    return bool(
        sizes and all(type(n) is int and 0 < n <= state.shape[0] for n in sizes) and sum(sizes) == gates.shape[0]
        and max(sizes) == state.shape[0] and gates.ndim == state.ndim == weights.ndim == 2
        and weights.shape[0] == gates.shape[1] and weights.shape[1] == state.shape[1]
    )


def _expansion_fits(given: list[Any], attrs: dict[str, Any]) -> bool:
    shape, target = given[0].shape, attrs["shape"]
    lead = len(target) - len(shape)
    return lead >= 0 and all(n >= 0 for n in target) and all(
        n in (1, want) for n, want in zip(shape, target[lead:]))


def _unfolding_fits(given: list[Any], attrs: dict[str, Any]) -> bool:
    x, (dim, size, step) = given[0], (attrs["dim"], attrs["size"], attrs["step"])
    length = x.shape[dim] if x.ndim else 1
    return 0 <= size <= length and step > 0


# Primitives that walk memory by numbers which their callers have checked; those of a file come from anywhere.
GUARDS: dict[str, Callable[[list[Any], dict[str, Any]], bool]] = {
    "lstm_scan": _scan_fits, "gru_scan": _scan_fits, "rnn_scan": _scan_fits, "expand": _expansion_fits,
    "unfold": _unfolding_fits,
}  # fmt: skip


def _drawn_bernoulli(x: Tensor, p: float, scale: float | None) -> None:
    x.bernoulli_(p)
    if scale is not None:
        x.mul_(scale)


DRAWS: dict[str, Callable[..., Any]] = {
    "uniform": lambda x, low, high: x.uniform_(low, high),
    "normal": lambda x, mean, std: x.normal_(mean, std),
    "bernoulli": _drawn_bernoulli,
    "randint": lambda x, low, high: x.random_(low, high),
}


def check(t: Tensor, low: Any, high: Any, but: Any, error: str, message: str) -> None:
    """Raise if values are out of bounds."""
    raised = {"IndexError": IndexError, "ValueError": ValueError}.get(error, RuntimeError)(message)
    if recording.recorder is not None:
        recording.bounded(t, low, high, raised, but)
    array = t._array
    if array.size and not bool((((array >= low) & (array <= high)) | (array == (low if but is None else but))).all()):
        raise raised


# ---- other shapes ------------------------------------------------------------------------------------

# Operations whose attributes say nothing about sizes.
_FREE = frozenset(
    "linear convolution transposed_convolution matmul dot softmax log_softmax sum mean amax amin any all max min "
    "argmax argmin transpose permute unsqueeze squeeze alias select native_layer_norm native_group_norm rejoin "
    "restack clone embedding to_copy copy cut pick insert slice unbind index index_select take_value gather cumsum "
    "cumprod sort topk norm var std logsumexp flip roll tril triu mse_loss nll_loss bernoulli prod count_nonzero "
    "nonzero mask_index masked_select median mode masked_fill where prelu nan_to_num take clamp cummax cummin "
    "index_add scatter scatter_add instance_norm diagonal adaptive_avg_pool resample channel_affine".split())
# Those for which the size of a batch may differ.
_BATCHED = frozenset("max_pool avg_pool im2col col2im constant_pad gather_planes unfold".split())


def adapted(call: Call, given: list[Any]) -> dict[str, Any]:
    """The attributes for operands of other shapes. RuntimeError where the recorded ones may not mean the same."""
    shapes = [tuple(x.shape) if isinstance(x, Tensor) else None for x in given]
    if shapes == call.shapes or call.name in _FREE or REGISTRY[call.name].elementwise:
        return call.attrs
    if call.name in ("view", "reshape_copy"):
        return {**call.attrs, "shape": reshaped(call.shapes[0], call.attrs["shape"], shapes[0])}
    if call.name == "expand":
        return {**call.attrs, "shape": _expanded(call.shapes[0], call.attrs["shape"], shapes[0])}
    rests = [(now and now[1:], then and then[1:]) for now, then in zip(shapes, call.shapes)]
    if call.name in _BATCHED and all(now == then for now, then in rests):
        return call.attrs
    raise RuntimeError(f"it was recorded for operands of shape {_shown([s for s in call.shapes if s is not None])}")


def reshaped(then: Any, target: Any, now: Any) -> tuple[int, ...]:
    """The shape that a reshape of `then` to `target` means for `now`.

    Leading and trailing sizes that the two have in common are those of the operand; what is left may be one size.
    """
    first = 0
    while first < min(len(then), len(target)) and then[first] == target[first]:
        first += 1
    last = 0
    while last < min(len(then), len(target)) - first and then[-1 - last] == target[-1 - last]:
        last += 1
    inside = target[first : len(target) - last]
    before, changed = then[first : len(then) - last], now[first : len(now) - last]
    if len(then) == len(now) and (before == changed or len(inside) == 1 or (not inside and math.prod(changed) == 1)):
        if len(inside) == 1:
            inside = (math.prod(changed),)
        return (*now[:first], *inside, *(now[len(now) - last :] if last else ()))
    raise RuntimeError(f"how a reshape from {list(then)} to {list(target)} is meant for {list(now)} cannot be told")


def _expanded(then: Any, target: Any, now: Any) -> tuple[int, ...]:
    more = len(target) - len(then)
    if len(then) != len(now):
        raise RuntimeError(f"an expansion recorded for shape {list(then)}, not {list(now)}")
    return (*target[:more], *(n if t == want else want for t, want, n in zip(then, target[more:], now)))
