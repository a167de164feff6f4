"""`flambeau.special`: SciPy's names for special functions."""

from __future__ import annotations

from flambeau.core.inplace import with_out as _with_out
from flambeau.ops import bessel as _bessel
from flambeau.ops import incomplete_gamma as _incomplete_gamma
from flambeau.ops import norms as _norms
from flambeau.ops import pointwise as _pointwise
from flambeau.ops import softmax as _softmax
from flambeau.ops import special as _special
from flambeau.ops import tolerance as _tolerance

digamma = psi = _with_out(_special.digamma)
entr = _with_out(_special.entr)
erf, erfc, erfinv = _with_out(_special.erf), _with_out(_special.erfc), _with_out(_special.erfinv)
erfcx = _with_out(_special.erfcx)
exp2, expm1, log1p = _with_out(_pointwise.exp2), _with_out(_pointwise.expm1), _with_out(_pointwise.log1p)
expit = _with_out(_pointwise.sigmoid)
gammainc, gammaincc = _with_out(_incomplete_gamma.igamma), _with_out(_incomplete_gamma.igammac)
gammaln = _with_out(_special.lgamma)
i0, i0e, i1, i1e = map(_with_out, (_bessel.i0, _bessel.i0e, _bessel.i1, _bessel.i1e))
log_ndtr, ndtr, ndtri = _with_out(_special.log_ndtr), _with_out(_special.ndtr), _with_out(_special.ndtri)
log_softmax, softmax = _softmax.log_softmax, _softmax.softmax
logit, logsumexp = _with_out(_special.logit), _with_out(_norms.logsumexp)
multigammaln = _with_out(_special.multigammaln)
polygamma = _with_out(_special.polygamma)
round = _with_out(_tolerance.round)
sinc = _with_out(_special.sinc)
xlog1py, xlogy = _with_out(_special.xlog1py), _with_out(_special.xlogy)

__all__ = [
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "exp2",
    "expit",
    "expm1",
    "gammainc",
    "gammaincc",
    "gammaln",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "log1p",
    "log_ndtr",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "round",
    "sinc",
    "softmax",
    "xlog1py",
    "xlogy",
]
