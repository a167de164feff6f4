"""Random tensors: new ones (rand, randn, randint, …), draws from given probabilities, and filling in place.

The numbers come from `core/random.py` and follow PyTorch's CPU stream. A tensor that is not contiguous is filled in
the order of its memory, as PyTorch does.
"""

from __future__ import annotations

import builtins
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core import device as devices
from flambeau.core import dtype as dtypes
from flambeau.core import random as stream
from flambeau.core import random_distributions as distributions
from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import assign, before, bump, check_overlap, check_writable, scalar_name, write_out
from flambeau.core.modes import modes
from flambeau.core.random import Generator, default_generator
from flambeau.core.tensor import Tensor, constant, plain, wrap
from flambeau.ops.creation import finish, like_array
from flambeau.ops.pointwise import constant_grad
from flambeau.ops.shape import as_sizes

Draw = Callable[[tuple, np.dtype, bool], np.ndarray]    # (shape, dtype, contiguous) -> values


def described(draw: Draw, kind: str, generator: Generator, **parameters: Any) -> Draw:
    """The draw with a description, from which a compiler may make its own code."""
    draw.kind, draw.generator, draw.parameters = kind, generator, parameters  # type: ignore[attr-defined]
    return draw


def generator_of(generator: Generator | None) -> Generator:
    """The generator given, or the default one. TypeError for anything else."""
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise TypeError(f"argument 'generator' must be a torch.Generator, not {type(generator).__name__}")
    return generator


# ---- in place ----------------------------------------------------------------------------------


def write_draws(x: Tensor, draw: Draw) -> Tensor:
    """Fill the memory of `x` with draws, in memory order and without a word to autograd; return `x`."""
    array = plain(x)
    if isinstance(array, devices.MetaArray):
        return x
    check_overlap(array)
    target = in_memory_order(array)
    target[...] = draw(target.shape, array.dtype, target is array)
    if recording.recorder is not None:
        recording.recorder.drawn(array, draw)
    else:
        bump(x)
    return x


def in_memory_order(array: np.ndarray) -> np.ndarray:
    """The same memory with dimensions sorted by stride; the array itself if it is contiguous."""
    if array.flags.c_contiguous:
        return array
    return array.transpose(sorted(range(array.ndim), key=lambda dim: -array.strides[dim]))


def _redrawn(name: str) -> Any:
    """The node of an in-place draw: new values, and no gradient for the old ones."""

    @primitive(f"{name}_draw", grad_name=f"{name.title().replace('_', '')}Backward0")
    def redrawn(x: Any, values: Any) -> Any:
        return np.array(values)

    redrawn.vjp(x=constant_grad)
    return redrawn


REDRAWN = {name: _redrawn(name) for name in
           ("uniform", "normal", "exponential", "cauchy", "log_normal", "geometric", "bernoulli", "random")}


def fill(name: str, x: Tensor, draw: Draw) -> Tensor:
    """Fill `x` in place with the draws called `name`. RuntimeError for a leaf that requires grad."""
    if not (modes.grad and x._requires_grad):
        return write_draws(x, draw)
    check_writable(x)
    values = write_draws(wrap(np.empty_like(plain(x))), draw)
    return assign(x, REDRAWN[name](before(x, copied=False), values))


def uniform_(input: Tensor, from_: float = 0, to: float = 1, *, generator: Generator | None = None,
             **bounds: Any) -> Tensor:
    """Fill with numbers uniform in [from, to). Dtypes: floating and complex (both parts)."""
    low, high = bounds.get("from", from_), to
    return fill("uniform", input, uniform_draws(input._array.dtype, low, high, generator))


def uniform_draws(dtype: np.dtype, low: float, high: float, generator: Generator | None) -> Draw:
    if dtype.kind not in "fcV":
        raise NotImplementedError(f"\"check_uniform_bounds\" not implemented for '{scalar_name(dtype)}'")
    if not low <= high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
    if high - low > 65504 and high - low > dtypes.finfo(dtypes.from_numpy(dtype).to_real()).max:
        raise RuntimeError(
            f"uniform_ expects to-from <= std::numeric_limits<{scalar_name(dtype)}>::max(), but found to={high:g} and "
            f"from={low:g} which result in to-from to exceed the limit"
        )
    gen = generator_of(generator)
    return described(_by_parts(lambda shape, dtype, *_: stream.uniform(gen, shape, dtype, low, high)),
                     "uniform", gen, low=low, high=high)


def _by_parts(draw: Draw) -> Draw:
    """Complex numbers are drawn as pairs of real ones."""

    def run(shape: tuple, dtype: np.dtype, contiguous: builtins.bool) -> np.ndarray:
        if dtype.kind != "c":
            return draw(shape, dtype, contiguous)
        pairs = draw((*shape, 2), np.dtype(f"f{dtype.itemsize // 2}"), contiguous)
        return pairs.view(dtype).reshape(shape)

    return run


def normal_(input: Tensor, mean: float = 0, std: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers. Dtypes: floating and complex (whose variance is shared by the parts)."""
    return fill("normal", input, normal_draws(input._array.dtype, mean, std, generator))


def normal_draws(dtype: np.dtype, mean: Any, std: float, generator: Generator | None) -> Draw:
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    if dtype.kind not in "fcV":
        raise NotImplementedError(f"\"normal_kernel_cpu\" not implemented for '{scalar_name(dtype)}'")
    gen = generator_of(generator)
    if dtype.kind == "c":
        std = std / 2**0.5
    return described(_by_parts(lambda shape, dtype, contiguous: stream.normal(gen, shape, dtype, mean, std,
                                                                              contiguous=contiguous)),
                     "normal", gen, mean=mean, std=std)


def exponential_(input: Tensor, lambd: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential numbers of rate `lambd`. Dtypes: floating."""
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    _check_continuous(input, "Exponential")
    gen = generator_of(generator)
    return fill("exponential", input, lambda shape, dtype, *_: distributions.exponential(gen, shape, dtype, lambd))


def cauchy_(input: Tensor, median: float = 0, sigma: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fill with Cauchy numbers. Dtypes: floating."""
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    _check_continuous(input, "Cauchy")
    gen = generator_of(generator)
    return fill("cauchy", input, lambda shape, dtype, *_: distributions.cauchy(gen, shape, dtype, median, sigma))


def _check_continuous(x: Tensor, name: str) -> None:
    if x._array.dtype.kind not in "fV":
        raise RuntimeError(f"{name} distribution is a continuous probability distribution. dtype must be a floating "
                           f"point but you specified {scalar_name(x._array.dtype)}")


def log_normal_(input: Tensor, mean: float = 1, std: float = 2, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers whose logarithm is normal. Dtypes: floating."""
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    if input._array.dtype.kind not in "fV":
        raise NotImplementedError(f"\"log_normal_cpu\" not implemented for '{scalar_name(input._array.dtype)}'")
    gen = generator_of(generator)
    return fill("log_normal", input, lambda shape, dtype, *_: distributions.log_normal(gen, shape, dtype, mean, std))


def geometric_(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of trials up to the first success, each of probability p. Dtypes: all but bool and complex."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    gen = generator_of(generator)
    return fill("geometric", input, lambda shape, dtype, *_: distributions.geometric(gen, shape, dtype, p))


def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with ones with probability p, a number or a tensor that broadcasts to this one, else zeros."""
    gen = generator_of(generator)
    if not isinstance(p, Tensor):
        if not 0 <= p <= 1:
            raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
        return fill("bernoulli", input, described(lambda shape, dtype, *_: distributions.bernoulli(gen, shape, p),
                                                  "bernoulli", gen, p=p, scale=None))
    chances = _checked_chances(p)
    recording.read(p)
    array = plain(input)
    try:
        chances = np.broadcast_to(chances, array.shape)
    except ValueError:
        raise RuntimeError(f"bernoulli_: probabilities of shape {list(p.shape)} do not expand to the tensor's "
                           f"{list(array.shape)}") from None
    if not array.flags.c_contiguous:
        chances = chances.transpose(sorted(range(array.ndim), key=lambda dim: -array.strides[dim]))
    return fill("bernoulli", input, lambda shape, dtype, *_: distributions.bernoulli_each(gen, chances))


def _checked_chances(p: Tensor) -> np.ndarray:
    chances = p._array
    if chances.dtype.kind not in "fV":
        raise NotImplementedError(f"\"bernoulli_tensor_cpu_p_\" not implemented for '{scalar_name(chances.dtype)}'")
    error = RuntimeError("bernoulli: expected every probability to be between 0 and 1 (p_in >= 0 && p_in <= 1)")
    recording.bounded(p, 0, 1, error)
    if not ((chances >= 0) & (chances <= 1)).all():
        raise error
    return chances


def random_(input: Tensor, *limits: Any, to: int | None = None, generator: Generator | None = None,
            **named: Any) -> Tensor:
    """Fill with integers: random_(from, to), random_(to), or random_() for every non-negative one the dtype holds.

    Floating dtypes take the integers they represent without gaps. `to=None` next to a `from` means the dtype's largest.
    """
    gen, dtype = generator_of(generator), input._array.dtype
    low = named.get("from")
    if len(limits) == 2:
        low, to = limits
    elif limits and (to is not None or low is None):
        low, to = (limits[0], to) if to is not None else (0, limits[0])
    if low is None and to is None:
        return fill("random", input, lambda shape, dtype, *_: stream.random_full(gen, shape, dtype))
    if to is None and low == -(1 << 63):
        if dtype.kind not in "fV" and dtype != np.int64:
            raise RuntimeError("random_full_64_bits_range_kernel_cpu handles only int64, double, float and bfloat16")
        return fill("random", input, lambda shape, dtype, *_: stream.random_64_bits(gen, shape, dtype))
    low = 0 if low is None else low
    return fill("random", input, _integers(dtype, low, _largest(dtype) + 1 if to is None else to, gen))


C_NAMES = {"int8": "signed char", "uint8": "unsigned char", "int16": "short", "int32": "int", "int64": "long",
           "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double"}


def _largest(dtype: np.dtype) -> int:
    """The largest integer up to which a dtype has no gaps."""
    if dtype.kind == "b":
        return 1
    return 1 << stream.DIGITS[dtype] if dtype in stream.DIGITS else int(np.iinfo(dtype).max)


def _integers(dtype: np.dtype, low: int, high: int, gen: Generator) -> Draw:
    if not low < high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    if dtype.kind == "c":
        raise RuntimeError("check_random_bounds handles only integral, floating-point and boolean types")
    largest, name = _largest(dtype), C_NAMES.get(dtype.name, dtype.name)
    smallest = -largest if dtype in stream.DIGITS else 0 if dtype.kind in "bu" else -largest - 1
    for label, value in (("from", low), ("to - 1", high - 1)):
        if smallest <= value <= largest:
            continue
        if dtype not in stream.DIGITS:
            raise RuntimeError(f"{label} is out of bounds for {name}")
        digits = stream.DIGITS[dtype]
        warnings.warn(f"{label} is out of bounds [-(2^{digits}), 2^{digits}]. Due to precision limitations {name} can "
                      "support discrete uniform distribution only within this range.", UserWarning, stacklevel=3)
    return described(lambda shape, dtype, *_: stream.randint(gen, shape, low, high, dtype),
                     "randint", gen, low=low, high=high)


# ---- new tensors -------------------------------------------------------------------------------


def _sizes(name: str, size: tuple, named: dict) -> tuple[int, ...]:
    """The sizes of a new tensor, given as numbers, as one sequence, or as `size=`."""
    if not size and "size" in named:
        size = (named.pop("size"),)
    if named:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(named))}'")
    if not size:
        raise TypeError(f"{name}() received an invalid combination of arguments - got (), but expected (tuple of ints "
                        "size)")
    try:
        sizes = as_sizes(size)
    except (AttributeError, TypeError):
        kinds = ", ".join(type(s).__name__ for s in size)
        raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, not {kinds}") from None
    for n in sizes:
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(sizes)}")
    return sizes


def _new(name: str, sizes: tuple, kind: dtypes.dtype, draw: Draw, *, out: Any, device: Any, requires_grad: Any,
         names: Any) -> Tensor:
    """A new contiguous tensor of draws, or the same written to `out`."""
    if devices.check_device(device) is devices.META:
        return finish(devices.meta_array(sizes, kind.numpy), None, requires_grad, names)
    array = draw(sizes, kind.numpy, True)
    if recording.recorder is not None:
        recording.recorder.drawn(array, draw)
    if out is not None:
        return write_out(wrap(array), out, name)
    made = wrap(array)
    if requires_grad:
        made.requires_grad_()
    return made if names is None else finish(array, device, requires_grad, names)


def _maker(name: str, prepare: Any, doc: str) -> Any:
    def make(*size: Any, generator: Generator | None = None, names: Any = None, out: Tensor | None = None,
             dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
             requires_grad: builtins.bool = False, pin_memory: builtins.bool = False, **named: Any) -> Tensor:
        sizes = _sizes(name, size, named)
        kind = dtype or (out.dtype if out is not None else dtypes.default_dtype())
        return _new(name, sizes, kind, prepare(kind.numpy, 0, 1, generator), out=out, device=device,
                    requires_grad=requires_grad, names=names)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return make


rand = _maker("rand", uniform_draws, "Numbers uniform in [0, 1); sizes as separate numbers or one sequence.")
randn = _maker("randn", normal_draws, "Normal numbers, mean 0, variance 1; sizes as separate numbers or one sequence.")


def _like(name: str, prepare: Any, doc: str) -> Any:
    def make(input: Tensor, *, generator: Generator | None = None, dtype: dtypes.dtype | None = None,
             layout: Any = None, device: Any = None, requires_grad: builtins.bool = False, memory_format: Any = None,
             pin_memory: builtins.bool = False) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        kind = (dtype or input.dtype).numpy
        return _draws_like(input, prepare(kind, 0, 1, generator), dtype, device, requires_grad, memory_format)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return make


def _draws_like(input: Tensor, draw: Draw, dtype: dtypes.dtype | None, device: Any, requires_grad: builtins.bool,
                memory_format: Any) -> Tensor:
    where = input.device if device is None else devices.check_device(device)
    made = finish(like_array(input, dtype, memory_format), where)
    write_draws(made, draw)
    return made.requires_grad_() if requires_grad else made


rand_like = _like("rand_like", uniform_draws,
                  "Numbers uniform in [0, 1), in the shape, type and memory order of `input`.")
randn_like = _like("randn_like", normal_draws, "Normal numbers in the shape, type and memory order of `input`.")


def _bounds(name: str, bounds: list, low: Any, high: Any) -> tuple[int, int]:
    """The limits of randint, given by position (high, or low and high) or by name."""
    if len(bounds) == 2:
        low, high = bounds
    elif bounds and high is None:
        high = bounds[0]
    elif bounds:
        low = bounds[0]
    if high is None:
        raise TypeError(f"{name}() received an invalid combination of arguments: 'high' is missing")
    found = []
    for label, value in (("low", 0 if low is None else low), ("high", high)):
        if isinstance(value, float) or not hasattr(value, "__index__"):
            raise TypeError(f"{name}(): argument '{label}' must be int, not {type(value).__name__}")
        found.append(value.__index__())
    return found[0], found[1]


def randint(*args: Any, low: Any = None, high: Any = None, size: Any = None, generator: Generator | None = None,
            out: Tensor | None = None, dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
            requires_grad: builtins.bool = False, pin_memory: builtins.bool = False) -> Tensor:
    """Integers in [low, high): randint(high, size) or randint(low, high, size). dtype: int64 unless given."""
    bounds = list(args)
    if size is None:
        if len(bounds) + (low is not None) + (high is not None) < 2:
            raise TypeError("randint() received an invalid combination of arguments: 'size' is missing")
        size = bounds.pop()
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"randint(): argument 'size' must be tuple of ints, not {type(size).__name__}")
    sizes = _sizes("randint", (size,), {})
    first, last = _bounds("randint", bounds, low, high)
    kind = dtype or (out.dtype if out is not None else dtypes.int64)
    return _new("randint", sizes, kind, _integers(kind.numpy, first, last, generator_of(generator)), out=out,
                device=device, requires_grad=requires_grad, names=None)


def randint_like(input: Tensor, *args: Any, low: Any = None, high: Any = None, generator: Generator | None = None,
                 dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
                 requires_grad: builtins.bool = False, memory_format: Any = None,
                 pin_memory: builtins.bool = False) -> Tensor:
    """Integers in [low, high) in the shape, type and memory order of `input`."""
    first, last = _bounds("randint_like", list(args), low, high)
    draw = _integers((dtype or input.dtype).numpy, first, last, generator_of(generator))
    return _draws_like(input, draw, dtype, device, requires_grad, memory_format)


def randperm(n: int, *, generator: Generator | None = None, out: Tensor | None = None,
             dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
             requires_grad: builtins.bool = False, pin_memory: builtins.bool = False) -> Tensor:
    """The numbers 0 … n-1 in random order. dtype: int64 unless given."""
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    kind = dtype or (out.dtype if out is not None else dtypes.int64)
    if kind is dtypes.bool or kind.is_complex:
        raise NotImplementedError(f"\"randperm\" not implemented for '{scalar_name(kind.numpy)}'")
    if n and n - 1 > _largest(kind.numpy):
        raise RuntimeError(f"randperm: value cannot be converted to type {kind.name} without overflow (n = {n})")
    gen = generator_of(generator)
    return _new("randperm", (n,), kind, lambda shape, dtype, *_: distributions.randperm(gen, n, dtype),
                out=out, device=device, requires_grad=requires_grad, names=None)


# ---- draws from given parameters: the result has the gradient zero -----------------------------------


@primitive("bernoulli")
def _bernoulli(p: Any, *, generator: Any) -> Any:
    """Ones with the probability each element gives."""
    return distributions.bernoulli_each(generator, np.asarray(p, order="C")).astype(p.dtype)


@primitive("poisson")
def _poisson(rate: Any, *, generator: Any) -> Any:
    """Poisson counts."""
    return distributions.poisson(generator, np.asarray(rate, order="C"))


@primitive("normal", grad_name="NormalBackward1")
def _shifted_normal(mean: Any, std: Any, *, generator: Any) -> Any:
    """Normal numbers of each mean and deviation; one of the two may be a number. The mean's dtype wins."""
    if not isinstance(std, np.ndarray):
        drawn = stream.normal(generator, mean.shape, mean.dtype, 0.0, std)
        return drawn + mean
    dtype = mean.dtype if isinstance(mean, np.ndarray) else std.dtype
    drawn = stream.normal(generator, np.broadcast_shapes(np.shape(mean), std.shape), dtype)
    drawn *= std
    drawn += mean
    return drawn


_bernoulli.vjp(p=constant_grad)
_poisson.vjp(rate=constant_grad)
_shifted_normal.vjp(mean=constant_grad, std=constant_grad)


def _finished(result: Tensor, out: Tensor | None, name: str) -> Tensor:
    return result if out is None else write_out(result, out, name)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None,
              out: Tensor | None = None) -> Tensor:
    """Ones with the probability each element of `input` gives (or with probability p), else zeros; same dtype."""
    gen = generator_of(generator)
    if p is not None:
        return _finished(bernoulli_(constant(np.empty(input._array.shape, input._array.dtype)), p, generator=gen), out,
                         "bernoulli")
    _checked_chances(input)
    return _finished(_bernoulli(input, generator=gen), out, "bernoulli")


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson counts for each rate; same shape and dtype. Dtypes: float32, float64."""
    if input._array.dtype.kind not in "fV":
        raise NotImplementedError(f"\"poisson_cpu\" not implemented for '{scalar_name(input._array.dtype)}'")
    error = RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    recording.bounded(input, 0, math.inf, error)
    if not (input._array >= 0).all():
        raise error
    return _poisson(input, generator=generator_of(generator))


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
           out: Tensor | None = None, dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
           requires_grad: builtins.bool = False, pin_memory: builtins.bool = False) -> Tensor:
    """Normal numbers: for each element of tensors `mean` and `std` (or one tensor and a number), or of a `size`."""
    gen = generator_of(generator)
    if not isinstance(mean, Tensor) and not isinstance(std, Tensor):
        if size is None:
            raise TypeError("normal() received an invalid combination of arguments: with two numbers, 'size' is needed")
        kind = dtype or (out.dtype if out is not None else dtypes.default_dtype())
        return _new("normal", _sizes("normal", (size,), {}), kind, normal_draws(kind.numpy, mean, std, gen), out=out,
                    device=device, requires_grad=requires_grad, names=None)
    if isinstance(std, Tensor):
        error = RuntimeError("normal expects all elements of std >= 0.0")
        recording.bounded(std, 0, math.inf, error)
        if not (std._array >= 0).all():
            raise error
        if isinstance(mean, Tensor):
            _check_broadcast(mean, std)
    like = mean if isinstance(mean, Tensor) else std
    normal_draws(like._array.dtype, 0, 0 if isinstance(std, Tensor) else std, gen)
    return _finished(_shifted_normal(mean, std, generator=gen), out, "normal")


def _check_broadcast(a: Tensor, b: Tensor) -> None:
    try:
        np.broadcast_shapes(a._array.shape, b._array.shape)
    except ValueError:
        raise RuntimeError(f"normal: mean of shape {list(a.shape)} and std of shape {list(b.shape)} do not "
                           "broadcast") from None


def multinomial(input: Tensor, num_samples: int, replacement: builtins.bool = False, *,
                generator: Generator | None = None, out: Tensor | None = None) -> Tensor:
    """Indices drawn with probability proportional to `input`: (n,) -> (num_samples,), (rows, n) -> (rows, num_samples).

    Weights need not sum to one. Raises RuntimeError for negative or infinite weights, for rows of zeros, and when
    more indices are asked for than there are, without replacement.
    """
    recording.read(input)
    weights = input._array
    if weights.dtype.kind not in "fV":
        raise RuntimeError("multinomial only supports floating-point dtypes for input, got: "
                           f"{scalar_name(weights.dtype)}")
    if weights.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > weights.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    by_lookup = replacement and num_samples > 1
    if not (weights >= 0).all() or not np.isfinite(weights).all():
        if not by_lookup:
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        reason = "entry = infinity or NaN" if (weights >= 0).all() else "entry < 0"
        raise RuntimeError(f"invalid multinomial distribution (encountering probability {reason})")
    if weights.size and (weights.sum(-1) == 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    if out is not None and out.dtype is not dtypes.int64:
        raise RuntimeError(f"multinomial expects Long tensor out, got: {scalar_name(out._array.dtype)}")
    drawn = distributions.multinomial(generator_of(generator), np.ascontiguousarray(weights), num_samples, replacement)
    return _finished(wrap(drawn), out, "multinomial")


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """Numbers of successes in `count` trials of probability `prob` (shapes broadcast); dtype of `count`, floating."""
    if count._array.dtype.kind not in "fV":
        raise ValueError("binomial only supports floating-point dtypes for count, got: "
                         f"{scalar_name(count._array.dtype)}")
    recording.read(count)
    counts, chances = np.broadcast_arrays(count._array, prob._array)
    return wrap(distributions.binomial(generator_of(generator), counts, chances))


# ---- the state as a tensor: the generator's methods that need one ---------------------------------------


def get_state(self: Generator) -> Tensor:
    """The state of the generator as a uint8 tensor of 5056 bytes."""
    return wrap(self.state_bytes())


def set_state(self: Generator, new_state: Tensor) -> None:
    """Continue from a state that `get_state` gave."""
    if not isinstance(new_state, Tensor):
        raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
    self.load_bytes(plain(new_state))


Generator.get_state = get_state                         # type: ignore[attr-defined]
Generator.set_state = set_state                         # type: ignore[attr-defined]
