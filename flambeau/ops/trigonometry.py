"""Trigonometric and hyperbolic functions and their inverses, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.ops.pointwise import add, conj, div, mul, neg, ones_like_of, rsqrt, sub, where

sin = primitive("sin", elementwise=True, float_op=True)(np.sin)
sin.vjp(x=lambda grad, x: mul(grad, conj(cos(x))))
sin.scalar(lambda m, x: m.sin(x))

cos = primitive("cos", elementwise=True, float_op=True)(np.cos)
cos.vjp(x=lambda grad, x: neg(mul(grad, conj(sin(x)))))
cos.scalar(lambda m, x: m.cos(x))

tan = primitive("tan", elementwise=True, float_op=True)(np.tan)
tan.vjp(x=lambda grad, out: mul(grad, conj(add(mul(out, out), 1))))
tan.scalar(lambda m, x: m.tan(x))

asin = primitive("asin", elementwise=True, float_op=True)(np.arcsin)
asin.vjp(x=lambda grad, x: mul(grad, conj(rsqrt(sub(1, mul(x, x))))))
asin.scalar(lambda m, x: m.asin(x))

acos = primitive("acos", elementwise=True, float_op=True)(np.arccos)
acos.vjp(x=lambda grad, x: neg(mul(grad, conj(rsqrt(sub(1, mul(x, x)))))))
acos.scalar(lambda m, x: m.acos(x))

atan = primitive("atan", elementwise=True, float_op=True)(np.arctan)
atan.vjp(x=lambda grad, x: div(grad, conj(add(mul(x, x), 1))))
atan.scalar(lambda m, x: m.atan(x))

sinh = primitive("sinh", elementwise=True, float_op=True)(np.sinh)
sinh.vjp(x=lambda grad, x: mul(grad, conj(cosh(x))))
sinh.scalar(lambda m, x: m.sinh(x))

cosh = primitive("cosh", elementwise=True, float_op=True)(np.cosh)
cosh.vjp(x=lambda grad, x: mul(grad, conj(sinh(x))))
cosh.scalar(lambda m, x: m.cosh(x))

asinh = primitive("asinh", elementwise=True, float_op=True)(np.arcsinh)
asinh.vjp(x=lambda grad, x: mul(grad, conj(rsqrt(add(mul(x, x), 1)))))
asinh.scalar(lambda m, x: m.asinh(x))

acosh = primitive("acosh", elementwise=True, float_op=True)(np.arccosh)
acosh.vjp(x=lambda grad, x: mul(grad, conj(mul(rsqrt(sub(x, 1)), rsqrt(add(x, 1))))))
acosh.scalar(lambda m, x: m.acosh(x))

atanh = primitive("atanh", elementwise=True, float_op=True)(np.arctanh)
atanh.vjp(x=lambda grad, x: div(grad, conj(sub(1, mul(x, x)))))
atanh.scalar(lambda m, x: m.atanh(x))

atan2 = primitive("atan2", elementwise=True, float_op=True)(np.arctan2)
atan2.vjp(
    x=lambda grad, x, y: mul(grad, div(y, _hypot_squared(x, y))),
    y=lambda grad, x, y: neg(mul(grad, div(x, _hypot_squared(x, y)))),
)
atan2.scalar(lambda m, x, y: m.atan2(x, y))


def _hypot_squared(x: Any, y: Any) -> Any:
    total = add(mul(x, x), mul(y, y))
    return where(total == 0, ones_like_of(total), total)


hypot = primitive("hypot", elementwise=True)(np.hypot)
hypot.vjp(x=lambda grad, x, out: mul(grad, div(x, out)), y=lambda grad, y, out: mul(grad, div(y, out)))
hypot.scalar(lambda m, x, y: m.hypot(x, y))
