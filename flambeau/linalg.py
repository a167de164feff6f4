"""`flambeau.linalg`: linear algebra, batched, with derivatives."""

from __future__ import annotations

from flambeau.core.inplace import with_out as _with_out
from flambeau.ops import decompositions as _decompositions
from flambeau.ops import indefinite as _indefinite
from flambeau.ops import linalg as _family
from flambeau.ops import matmul as _matmul
from flambeau.ops import matrix_functions as _matrix_functions
from flambeau.ops import norms as _norms
from flambeau.ops import reflections as _reflections
from flambeau.ops.decompositions import LinAlgError

_INDEFINITE = ("ldl_factor", "ldl_factor_ex", "ldl_solve")
_FACTORS = (
    "cholesky", "cholesky_ex", "qr", "svd", "svdvals", "eigh", "eigvalsh", "eig", "eigvals", "lu_factor",
    "lu_factor_ex", "lu",
)  # fmt: skip
_SOLVERS = (
    "solve", "solve_ex", "solve_triangular", "inv", "inv_ex", "pinv", "det", "slogdet", "lstsq", "matrix_rank", "cond",
    "multi_dot", "cross", "vecdot", "vander", "lu_solve", "tensorinv", "tensorsolve",
)  # fmt: skip
_FUNCTIONS = ("matrix_power", "matrix_exp")
globals().update({name: _with_out(getattr(_decompositions, name)) for name in _FACTORS})
globals().update({name: _with_out(getattr(_family, name)) for name in _SOLVERS})
globals().update({name: _with_out(getattr(_matrix_functions, name)) for name in _FUNCTIONS})
globals().update({name: _with_out(getattr(_indefinite, name)) for name in _INDEFINITE})
householder_product = _with_out(_reflections.householder_product)
diagonal = _family.linalg_diagonal
matmul = _with_out(_matmul.matmul)
norm, vector_norm, matrix_norm = map(_with_out, (_norms.linalg_norm, _norms.vector_norm, _norms.matrix_norm))

__all__ = ["LinAlgError", "diagonal", "householder_product", "matmul", "matrix_norm", "norm", "vector_norm", *_FACTORS,
           *_SOLVERS, *_FUNCTIONS, *_INDEFINITE]
