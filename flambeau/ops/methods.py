"""The one table that gives `Tensor` its methods.

`METHODS`: family -> functions that are methods as they are. `INPLACE`: family -> functions whose in-place form
(`name_`) is derived. A name after a colon is the name of the method.
"""

from __future__ import annotations

import importlib
from types import MethodType
from typing import Any

from flambeau.core.inplace import inplace, inplace_of
from flambeau.core.tensor import Tensor
from flambeau.ops import arithmetic, casting, comparison, matmul, pointwise
from flambeau.ops.shape import iterate

METHODS: dict[str, str] = {
    "pointwise": """
        exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sigmoid tanh copysign floor ceil trunc neg reciprocal square abs
        sign sgn remainder fmod maximum minimum fmax fmin conj conj_physical mul neg:negative abs:absolute trunc:fix
        mul:multiply""",
    "trigonometry": """
        sin cos tan asin acos atan sinh cosh asinh acosh atanh atan2 hypot asin:arcsin acos:arccos atan:arctan
        asinh:arcsinh acosh:arccosh atanh:arctanh atan2:arctan2""",
    "special": "erf erfc erfinv lgamma digamma polygamma_method:polygamma mvlgamma xlogy logit sinc",
    "bessel": "i0",
    "incomplete_gamma": "igamma igammac",
    "decompositions": "cholesky_old:cholesky old_qr:qr old_svd:svd old_lu:lu",
    "linalg": """
        det slogdet logdet inv:inverse pinv:pinverse old_cross:cross cholesky_solve cholesky_inverse
        old_lu_solve:lu_solve triangular_solve""",
    "matrix_functions": "matrix_exp matrix_power",
    "reflections": "householder_product:orgqr ormqr geqrf",
    "statistics": "cov corrcoef",
    "spectrogram": "stft istft",
    "complex": "angle resolve_conj resolve_conj:resolve_neg",
    "tolerance": """
        equal isclose allclose nan_to_num round frac deg2rad rad2deg logaddexp logaddexp2 heaviside ldexp gcd
        lcm nextafter isposinf isneginf isreal frexp positive""",
    "arithmetic": """
        add sub div floor_divide pow float_power clamp clamp_min clamp_max lerp addcmul addcdiv add_ sub_ mul_
        div_ lerp_ addcmul_ addcdiv_ float_power_ sub:subtract div:divide div:true_divide clamp:clip
        sub_:subtract_ div_:divide_ div_:true_divide_ mul_:multiply_""",
    "comparison": """
        eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
        bitwise_left_shift bitwise_right_shift isnan isinf isfinite signbit
        ne:not_equal lt:less le:less_equal gt:greater ge:greater_equal""",
    "casting": "clone contiguous to cpu cuda detach type_:type",
    "writing": "apply_ copy_ fill_ zero_",
    "queries": "is_nonzero",
    "shape": """
        view reshape transpose permute movedim expand squeeze unsqueeze select narrow unbind split diagonal
        unfold as_strided transpose:swapaxes transpose:swapdims movedim:moveaxis split:split_with_sizes""",
    "reductions": "sum mean prod var std all any count_nonzero nansum nanmean",
    "extremes": "amax amin aminmax argmax argmin max min median nanmedian mode quantile nanquantile",
    "norms": "logsumexp norm dist renorm",
    "contraction": "inner kron trace",
    "matmul": """
        matmul mm bmm dot vdot outer mv addmm addmv addr baddbmm addbmm outer:ger
        addmm_ addmv_ addr_ baddbmm_ addbmm_""",
    "random": """
        uniform_ normal_ exponential_ cauchy_ log_normal_ geometric_ bernoulli_ random_ bernoulli multinomial""",
    "activation_piecewise": "relu relu_ prelu hardshrink",
    "softmax": "softmax log_softmax",
    "masking": """
        masked_fill masked_fill_ masked_select masked_scatter masked_scatter_ nonzero argwhere where_method:where
        contains:__contains__""",
    "indexing": "getitem:__getitem__ setitem:__setitem__ index_put index_put_",
    "gathering": """
        index_select index_add index_add_ index_copy index_copy_ index_fill index_fill_ take put put_""",
    "scattering": """
        gather scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_ index_reduce index_reduce_
        take_along_dim""",
    "reshaping": """
        flatten unflatten ravel view_as reshape_as expand_as type_as sum_to_size broadcast_to chunk
        tensor_split hsplit vsplit dsplit t adjoint unsqueeze_ squeeze_ transpose_ transpose_:swapaxes_
        transpose_:swapdims_ t_ as_strided_ resize_ resize_as_ set_""",
    "rearranging": """
        repeat tile repeat_interleave flip fliplr flipud roll rot90 tril triu diag_embed diag diagflat select_scatter
        slice_scatter diagonal_scatter as_strided_scatter fill_diagonal_ reverse:__reversed__""",
    "named": "has_names rename rename_ refine_names align_to align_as",
    "sorting": "sort argsort msort topk kthvalue unique unique_consecutive isin",
    "histograms": "bincount histc histogram",
    "cumulative": "cumsum cumprod cummax cummin logcumsumexp",
    "differences": "diff",
    "creation": "new new_zeros new_ones new_empty new_empty_strided new_full new_tensor",
}

INPLACE: dict[str, str] = {
    "pointwise": """
        exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sigmoid tanh copysign floor ceil trunc neg reciprocal square abs
        sign sgn remainder fmod conj_physical neg:negative abs:absolute trunc:fix""",
    "trigonometry": """
        sin cos tan asin acos atan sinh cosh asinh acosh atanh atan2 hypot asin:arcsin acos:arccos atan:arctan
        asinh:arcsinh acosh:arccosh atanh:arctanh atan2:arctan2""",
    "special": "erf erfc erfinv lgamma digamma mvlgamma xlogy logit sinc polygamma_method:polygamma",
    "bessel": "i0",
    "incomplete_gamma": "igamma igammac",
    "tolerance": "nan_to_num round frac deg2rad rad2deg heaviside ldexp gcd lcm nextafter",
    "arithmetic": "floor_divide pow clamp clamp_min clamp_max clamp:clip",
    "comparison": """
        eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
        bitwise_left_shift bitwise_right_shift
        ne:not_equal lt:less le:less_equal gt:greater ge:greater_equal""",
    "rearranging": "tril triu",
    "cumulative": "cumsum cumprod",
    "norms": "renorm",
}


def _reflected(op: Any) -> Any:
    def method(self: Tensor, other: Any) -> Any:
        if not isinstance(self, Tensor):
            raise TypeError(f"descriptor of 'torch.Tensor' objects doesn't apply to a '{type(self).__name__}' object")
        return op(other, self)

    return method


def _or_not_implemented(op: Any) -> Any:
    """A binary operator that leaves operands it does not know to the other side."""

    def method(self: Tensor, other: Any) -> Any:
        try:
            return op(self, other)
        except TypeError:
            if isinstance(other, Tensor) or isinstance(other, (int, float, complex)):
                raise
            return NotImplemented

    return method


OPERATORS: dict[str, Any] = {
    "__add__": pointwise.add, "__radd__": _reflected(pointwise.add), "__iadd__": arithmetic.add_,
    "__sub__": pointwise.sub, "__rsub__": _reflected(pointwise.sub), "__isub__": arithmetic.sub_,
    "__mul__": pointwise.mul, "__rmul__": _reflected(pointwise.mul), "__imul__": arithmetic.mul_,
    "__truediv__": pointwise.div, "__rtruediv__": _reflected(pointwise.div), "__itruediv__": arithmetic.div_,
    "__floordiv__": arithmetic.floor_divide, "__rfloordiv__": _reflected(arithmetic.floor_divide),
    "__mod__": pointwise.remainder, "__rmod__": _reflected(pointwise.remainder),
    "__rdiv__": lambda self, other: pointwise.mul(self.reciprocal(), other),
    "__pow__": arithmetic.pow, "__rpow__": _reflected(pointwise.pow),
    "__matmul__": matmul.matmul, "__rmatmul__": _reflected(matmul.matmul),
    "__neg__": pointwise.neg, "__pos__": lambda self: self.positive(), "__abs__": pointwise.abs,
    "__invert__": comparison.bitwise_not,
    "__lt__": comparison.lt, "__le__": comparison.le, "__gt__": comparison.gt, "__ge__": comparison.ge,
    "__eq__": _or_not_implemented(comparison.eq), "__ne__": _or_not_implemented(comparison.ne),
    "__and__": comparison.bitwise_and, "__rand__": _reflected(comparison.bitwise_and),
    "__or__": comparison.bitwise_or, "__ror__": _reflected(comparison.bitwise_or),
    "__xor__": comparison.bitwise_xor, "__rxor__": _reflected(comparison.bitwise_xor),
    "__lshift__": comparison.bitwise_left_shift, "__rshift__": comparison.bitwise_right_shift,
    "__rlshift__": _reflected(comparison.bitwise_left_shift), "__rrshift__": _reflected(comparison.bitwise_right_shift),
    "__iter__": iterate,
}


IN_PLACE_OPERATORS = {
    "__iand__": "bitwise_and_", "__ior__": "bitwise_or_", "__ixor__": "bitwise_xor_",
    "__ilshift__": "bitwise_left_shift_",
    "__irshift__": "bitwise_right_shift_", "__ifloordiv__": "floor_divide_", "__imod__": "remainder_",
    "__ipow__": "pow_",
}

# Attributes: family -> names of its PROPERTIES.
PROPERTIES: dict[str, str] = {"reshaping": "T mT H mH", "complex": "real imag"}
WRITABLE = ("real", "imag")


def entries(listing: str) -> list[tuple[str, str]]:
    """Pairs (function name, public name) of a table cell."""
    return [(name, public or name) for name, _, public in (word.partition(":") for word in listing.split())]


def derive_inplace(function: Any) -> Any:
    """The in-place form: straight into memory for a NumPy ufunc, by way of a new result otherwise."""
    return inplace(function) if hasattr(function, "op") and function.op.elementwise else inplace_of(function)


# Functions of two operands that must both be tensors; the others take a number as second operand too.
TENSORS_ONLY = frozenset(
    """atan2 arctan2 fmax fmin hypot logaddexp logaddexp2 logical_and logical_or logical_xor maximum minimum
    nextafter gcd lcm
    ldexp heaviside igamma igammac""".split()
)


def tensor_operands(function: Any, public: str) -> Any:
    """The function, refusing operands that are not tensors with PyTorch's TypeError."""

    def call(input: Any, other: Any, **options: Any) -> Any:
        for position, (name, value) in enumerate((("input", input), ("other", other)), start=1):
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{public}(): argument '{name}' (position {position}) must be Tensor, not {type(value).__name__}"
                )
        return function(input, other, **options)

    call.__name__ = call.__qualname__ = public
    call.__doc__ = function.__doc__
    return call


def _load(family: str, name: str) -> Any:
    return getattr(importlib.import_module(f"flambeau.ops.{family}"), name)


class _Deferred:
    """A method that imports its family when it is first looked up and puts the real function in its own place.

    Forty families take 100 ms to import; a script uses a dozen. `help()` and `inspect` see the real function.
    """

    def __init__(self, family: str, name: str, public: str, in_place: bool):
        self.family, self.name, self.in_place = family, name, in_place
        self.__name__ = self.__qualname__ = public

    def resolve(self) -> Any:
        """The real function, from now on the method of Tensor."""
        public = self.__name__
        function = _load(self.family, self.name)
        if self.in_place:
            function = derive_inplace(function)
            function.__name__ = function.__qualname__ = public
        elif public in TENSORS_ONLY:
            function = tensor_operands(function, public)
        setattr(Tensor, public, function)
        return function

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        function = self.resolve()
        return function if instance is None else MethodType(function, instance)


def _deferred_property(family: str, name: str) -> property:
    def getter(self: Tensor) -> Any:
        function = _load(family, "PROPERTIES")[name]
        setattr(Tensor, name, property(function, setter))
        return function(self)

    def write(self: Tensor, value: Any) -> None:
        getattr(self, name)[...] = value

    setter = write if name in WRITABLE else None
    return property(getter, setter)


def bind() -> None:
    """Give Tensor everything in the tables."""
    for family, listing in METHODS.items():
        for name, public in entries(listing):
            setattr(Tensor, public, _Deferred(family, name, public, False))
    for family, listing in INPLACE.items():
        for name, public in entries(listing):
            setattr(Tensor, public + "_", _Deferred(family, name, public + "_", True))
    for family, listing in PROPERTIES.items():
        for name in listing.split():
            setattr(Tensor, name, _deferred_property(family, name))
    Tensor.names = property(  # type: ignore[attr-defined]
        lambda self: _load("named", "names_of")(self), lambda self, names: _load("named", "set_names")(self, names))
    for name, cast in casting.CASTS.items():
        setattr(Tensor, name, cast)
    for name, operator in OPERATORS.items():
        setattr(Tensor, name, operator)
    for name, derived in IN_PLACE_OPERATORS.items():
        setattr(Tensor, name, _forward_to(derived))


def _forward_to(name: str) -> Any:
    def operator(self: Tensor, other: Any) -> Any:
        return getattr(self, name)(other)

    return operator
