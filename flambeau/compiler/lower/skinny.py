"""Which products of matrices are computed by our own code (`panels.py`) and how: the measured rule.

    out[i, j] = sum over k of p[i, k] * q[k, j]

One of the two matrices must be small enough to stay in the second-level cache; it becomes q, the other one is p. A
product and its transpose are the same work, so each is looked at in both ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flambeau.backends.onednn import available
from flambeau.backends.onednn.memory import loaded
from flambeau.compiler.graph import Ref
from flambeau.compiler.lower.onednn import FLOAT
from flambeau.compiler.steps import Lowering, RoutineStep

HEIGHT, VECTORS = 6, 2  # rows and vectors of a tile: 12 sums, 2 vectors of q and one of p are 15 of AVX2's 16 registers
CHUNK = 8  # tiles that are packed, and transposed, together
BLOCK = 256  # k at a time where tiles are packed and transposed: they and a part of every panel share a cache
LINE = 16  # elements of a line of the cache
MOST = 2  # products added up in one
NONE, BIAS, START = range(3)  # what sums begin with: nothing, a number for each row i, a matrix
LINEAR, RELU, LEAKY = range(3)  # what follows
SMALL = 110_000  # elements of q: 440 KB
FEW = 4  # threads
LEAST = 1 << 22  # multiply-adds below which the library is as good
PARALLEL = 1 << 20  # multiply-adds from which threads pay: some 20 µs

SIZES = "rows columns depth shares apart packed turned out_step begins start_step activation slope".split()
SOURCE = "depth p_step q_along q_step".split()
WORDS = [*SIZES, *(f"{word}{s}" for s in range(MOST) for word in SOURCE)]  # what generated code knows of a product
BUFFERS = [*(f"{matrix}{s}" for s in range(MOST) for matrix in "pq"), "start", "scratch", "out"]


@dataclass(frozen=True)
class Source:
    """One product: how many k, the step of p and of q between rows of memory, whether q's rows run along k."""

    depth: int
    p_step: int
    q_along: bool
    q_step: int


@dataclass(frozen=True)
class Shape:
    """What tells products apart. `packed`: p's memory runs along i. `turned`: the result's runs along i."""

    rows: int
    columns: int
    sources: tuple[Source, ...]
    packed: bool
    turned: bool
    out_step: int
    begins: int = NONE
    start_step: int = 0
    activation: int = LINEAR
    slope: float = 0.0
    shares: int = 1

    @property
    def apart(self) -> bool:
        """Whether each thread packs panels of its own: cheaper than waiting for others if they are few."""
        return self.shares <= FEW

    @property
    def depth(self) -> int:
        return sum(source.depth for source in self.sources)

    @property
    def numbers(self) -> np.ndarray:
        """The sizes as generated code reads them."""
        words = {word: getattr(self, word) for word in SIZES}
        words["slope"] = int(np.float32(self.slope).view(np.int32))
        for s, source in enumerate(self.sources):
            words |= {f"{word}{s}": getattr(source, word) for word in SOURCE}
        return np.array([words.get(word, 0) for word in WORDS], np.int64)

    def scratch_bytes(self, lanes: int) -> int:
        """Memory for the panels, and for each share its packed tiles and its sums."""
        across = -(-self.columns // (VECTORS * lanes)) * VECTORS * lanes
        deep = min(BLOCK, self.depth) if self.turned else self.depth
        own = LINE
        if self.packed:
            own += CHUNK * HEIGHT * (deep + LINE)
        if self.turned:
            own += CHUNK * HEIGHT * across
        copies = self.shares if self.apart else 1
        return 4 * (copies * across * self.depth + self.shares * own)

    @property
    def moved(self) -> int:
        """Elements that are copied to compute it: to choose between two ways."""
        turned = self.rows * self.columns if self.turned else 0
        return self.columns * self.depth + (self.rows * self.depth if self.packed else 0) + turned


@dataclass
class Way:
    """How a product is computed: the shape, and p and q of each source."""

    shape: Shape
    operands: list[Ref]

    @property
    def label(self) -> str:
        """The sizes of p and q of each source, as for the library's products."""
        sizes = ["x".join(map(str, ref.shape)) for ref in self.operands]
        return f"product {' '.join(sizes)}: " + ("turned" if self.shape.turned else "straight")


def way(
    pairs: Sequence[tuple[Ref, Ref]],
    out: Ref,
    threads: int,
    *,
    bias: Ref | None = None,
    start: Ref | None = None,
    post: Sequence[tuple[Any, ...]] = (),
) -> Way | None:
    """How to compute out = sum of x @ y + bias + start, then `post` (passes/postops.py); None: the library is better.

    `bias` is a vector along the columns. All windows are float32.
    """
    pairs, out, start = [(flat(x), flat(y)) for x, y in pairs], flat(out), start and flat(start)
    if len(out.shape) != 2 or any(len(ref.shape) != 2 for pair in pairs for ref in pair) or len(pairs) > MOST:
        return None
    work = sum(math.prod(out.shape) * x.shape[1] for x, _ in pairs)
    if work < LEAST or not possible():
        return None
    found = []
    for order in (1, -1):
        matrices = list(pairs) if order > 0 else [(turned(y), turned(x)) for x, y in pairs]
        target, begin = (out, start) if order > 0 else (turned(out), start and turned(start))
        shape = with_post(shape_of(matrices, target, begin, bias, order < 0), post)
        if shape is not None:
            found.append(Way(shape, [ref for pair in matrices for ref in pair]))
    if not found:
        return None
    best = min(found, key=lambda one: one.shape.moved)
    best.shape = replace(best.shape, shares=threads if work >= PARALLEL else 1)
    return best


def steps(low: Lowering, pairs: Sequence[tuple[Ref, Ref]], out: Ref, **more: Any) -> list[RoutineStep] | None:
    """The step of a product in its best way; None to leave it to the library. Arguments as for `way`."""
    best = way(pairs, out, low.threads, **more)
    if best is None:
        return None
    from flambeau.backends.llvm.jit import vector_lanes

    numbers = best.shape.numbers
    table = low.graph.value(numbers.shape, (1,), numbers.dtype)
    low.graph.constants[table] = numbers
    room = low.temporary(best.shape.scratch_bytes(vector_lanes(FLOAT)))
    first = best.operands[0]  # stands for what there is none of
    begins = more.get("bias") or more.get("start") or first
    missing = [first] * (2 * MOST - len(best.operands))
    operands = (table.whole(), *best.operands, *missing, begins, room.whole(), out)
    return [RoutineStep("panels.product", emit, operands, 2, best.label)]


def emit(module: Any) -> Any:
    """The routine that serves all products."""
    from flambeau.compiler.lower import panels

    return panels.emit_product(module)


def possible() -> bool:
    """Whether there are a code generator and the library, and that has nothing better: with AVX-512 it has."""
    if not available() or loaded().has_avx512:
        return False
    try:
        from flambeau.backends.llvm import jit
    except ImportError:
        return False
    return jit.host().has_fma


def flat(ref: Ref) -> Ref:
    """The window without leading axes of one element."""
    extra = max(len(ref.shape) - 2, 0)
    if any(n != 1 for n in ref.shape[:extra]):
        return ref
    return Ref(ref.value, ref.shape[extra:], ref.strides[extra:], ref.offset)


def turned(ref: Ref) -> Ref:
    """The transpose."""
    return Ref(ref.value, ref.shape[::-1], ref.strides[::-1], ref.offset)


def shape_of(
    pairs: Sequence[tuple[Ref, Ref]], out: Ref, start: Ref | None, bias: Ref | None, along_rows: bool
) -> Shape | None:
    """The shape of the sum of p @ q, if it fits; `along_rows`: the bias has an element for each row of `out`."""
    rows, columns = out.shape
    depth = sum(p.shape[1] for p, _ in pairs)
    if columns * depth > SMALL or min(rows, columns, depth) < 2:
        return None
    is_turned = out.strides[0] == 1
    if not is_turned and out.strides[1] != 1:
        return None
    if len(pairs) > 1 and is_turned:  # sums over more k than a block are kept for one product only
        return None
    packed = pairs[0][0].strides[1] != 1
    if len(pairs) > 1 and not packed:
        return None
    sources = []
    for p, q in pairs:
        if p.strides[0 if packed else 1] != 1 or 1 not in q.strides:
            return None
        along = q.strides[0] == 1 and q.shape[0] > 1
        source = Source(p.shape[1], p.strides[1 if packed else 0], along, q.strides[1 if along else 0])
        if source.p_step < p.shape[0 if packed else 1] or source.q_step < q.shape[0 if along else 1]:
            return None
        sources.append(source)
    begins, start_step = NONE, 0
    if bias is not None:
        if start is not None or bias.strides != (1,) or is_turned != along_rows:
            return None
        begins = BIAS if is_turned else START
    elif start is not None:
        if start.strides[0 if is_turned else 1] != 1:
            return None
        begins, start_step = START, start.strides[1 if is_turned else 0]
    return Shape(
        rows, columns, tuple(sources), packed, is_turned, out.strides[1 if is_turned else 0], begins, start_step
    )


def with_post(shape: Shape | None, post: Sequence[tuple[Any, ...]]) -> Shape | None:
    """The shape with what follows, if it can: only sums that are kept for a while."""
    if shape is None or not post:
        return shape
    if not shape.turned:
        return None
    if len(post) == 1 and post[0][0] == "relu":
        return replace(shape, activation=RELU)
    if len(post) == 1 and post[0][0] == "leaky_relu":
        return replace(shape, activation=LEAKY, slope=post[0][1])
    return None
