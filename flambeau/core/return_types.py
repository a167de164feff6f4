"""Named results of functions with several outputs: `sort(x).values`, printed as `torch.return_types.sort(...)`."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

FIELDS = {
    "values indices": "max min median nanmedian mode sort topk kthvalue cummax cummin",
    "min max": "aminmax",
    "sign logabsdet": "slogdet linalg_slogdet",
    "mantissa exponent": "frexp",
    "hist bin_edges": "histogram histogramdd",
    "Q R": "qr linalg_qr",
    "U S Vh": "linalg_svd",
    "U S V": "svd",
    "eigenvalues eigenvectors": "linalg_eig linalg_eigh",
    "solution residuals rank singular_values": "linalg_lstsq",
    "L info": "linalg_cholesky_ex",
    "inverse info": "linalg_inv_ex",
    "P L U": "linalg_lu lu_unpack",
    "LU pivots": "linalg_lu_factor",
    "LU pivots info": "linalg_lu_factor_ex",
    "LD pivots": "linalg_ldl_factor",
    "LD pivots info": "linalg_ldl_factor_ex",
    "result info": "linalg_solve_ex",
    "a tau": "geqrf",
    "solution cloned_coefficient": "triangular_solve",
}


def _make(name: str, fields: str) -> Any:
    base: Any = namedtuple(name, fields)  # type: ignore[misc]  # the name comes from the table

    def __new__(cls: Any, *values: Any) -> Any:
        # PyTorch's result types take one sequence; named tuples take the fields.
        if len(values) == 1 and isinstance(values[0], (tuple, list)):
            values = tuple(values[0])
        return tuple.__new__(cls, values)

    def __repr__(self: Any) -> str:
        parts = ",\n".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
        return f"torch.return_types.{name}(\n{parts})"

    body = {"__slots__": (), "__new__": __new__, "__repr__": __repr__, "__module__": __name__}
    return type(name, (base,), body)


TYPES: dict[str, Any] = {name: _make(name, fields) for fields, names in FIELDS.items() for name in names.split()}
globals().update(TYPES)


def __getattr__(name: str) -> Any:  # for type checkers: every name of TYPES is an attribute
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
