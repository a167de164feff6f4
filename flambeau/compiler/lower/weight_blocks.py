"""The gradient of a convolution's weight as matrix products over blocks of an image, in one native routine.

On AVX2 oneDNN's own kernel computes it at 40–60 GFLOP/s a core, its matrix product at 85 (docs/decisions/0005). For
kernel row i and stride 1, with images channels-last,

    dw[i] = sum over blocks of rows of grad.T @ columns[i : i + rows]        (O, kw*C) = (O, pixels) @ (pixels, kw*C)

where columns holds, for each pixel of an output column in every row of the padded image, its kw neighbours. A block's
columns stay in the cache between its products. Images are divided among the threads, each of which adds up its own.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm import runtime, symbols
from flambeau.backends.onednn.convolution import Geometry
from flambeau.backends.onednn.memory import loaded
from flambeau.compiler.graph import Ref, Value
from flambeau.compiler.kernel import Instruction, Kernel, Load, Reduce, Store
from flambeau.compiler.lower.onednn import FLOAT, Plan, is_last
from flambeau.compiler.steps import KernelStep, RoutineStep
from flambeau.core.digest import blake2b

COLUMN_BYTES = 1 << 20  # of one block
FEW_CHANNELS, FEW_WEIGHTS = 32, 2048  # with fewer the matrices are too thin, and oneDNN's own kernel wins
FEW_PIXELS = 128  # of an image
MOST_TAPS = 3  # wider kernels copy too much
LANES = 8


def fits(geometry: Geometry) -> bool:
    """Whether this way covers the geometry and is worth it. With AVX-512 oneDNN's kernel is as fast as its product."""
    if geometry.groups != 1 or len(geometry.x) != 4 or loaded().has_avx512:
        return False
    stride = tuple(geometry.parameters[0][:2])
    outputs, channels = geometry.w[:2]
    return (
        stride == (1, 1)
        and geometry.w[3] <= MOST_TAPS
        and geometry.w[2] > 1
        and channels % LANES == 0
        and min(channels, outputs) >= FEW_CHANNELS
        and channels * outputs >= FEW_WEIGHTS
        and geometry.y[2] * geometry.y[3] >= FEW_PIXELS
    )


def weight_in_blocks(plan: Plan, geometry: Geometry, x: Ref, grad: Ref, of_weight: Ref, of_bias: Ref | None) -> None:
    """Add the steps that compute the gradients of weight and bias."""
    x = x if is_last(x) else plan.copied(x, last=True)
    grad = grad if is_last(grad) else plan.copied(grad, last=True)
    outputs, channels, rows, taps = geometry.w
    shares = min(plan.low.threads, geometry.x[0])
    shape = Shape(geometry, shares)
    sums = plan.low.graph.value((shares, rows, outputs, taps, channels), shape.sum_strides, FLOAT)
    columns = plan.low.graph.value((shares, shape.column_elements), (shape.column_elements, 1), FLOAT)
    symbols.add_library(loaded().dll, ["dnnl_sgemm"])
    plan.steps.append(RoutineStep(shape.key, shape.emit, (x, grad, sums.whole(), columns.whole()), 2))
    plan.steps.append(_added(sums, of_weight, geometry.w, shape.sum_strides, shares))
    if of_bias is not None:
        windows = grad.shape[0] * grad.shape[2] * grad.shape[3]
        body: tuple[Instruction, ...] = (
            Load(0, (1, outputs), grad.offset, FLOAT),
            Reduce("sum", 0, FLOAT),
            Store(1, (of_bias.strides[0], 0), of_bias.offset, 1, FLOAT),
        )
        plan.steps.append(
            KernelStep(
                Kernel((outputs, windows), 1, body, 2), (grad.value, of_bias.value), (grad.value,), (of_bias.value,)
            )
        )


def _added(sums: Value, target: Ref, w: tuple[int, ...], strides: tuple[int, ...], shares: int) -> KernelStep:
    """The sum over shares, in the weight's own order of dimensions."""
    share, row, output, tap, channel = strides
    load = Load(0, (output, channel, row, tap, share), 0, FLOAT)
    body: tuple[Instruction, ...]
    if shares > 1:
        body = (load, Reduce("sum", 0, FLOAT), Store(1, (*target.strides, 0), target.offset, 1, FLOAT))
        kernel = Kernel((*w, shares), 1, body, 2)
    else:
        body = (Load(0, load.strides[:4], 0, FLOAT), Store(1, target.strides, target.offset, 0, FLOAT))
        kernel = Kernel(w, 0, body, 2)
    return KernelStep(kernel, (sums, target.value), (sums,), (target.value,))


class Shape:
    """The numbers of one geometry, and the routine for them."""

    def __init__(self, geometry: Geometry, shares: int):
        self.images, self.channels, self.height, self.width = geometry.x
        self.outputs, _, self.rows, self.taps = geometry.w
        self.tall, self.wide = geometry.y[2:]
        self.shares = shares
        self.dilation = tuple(d + 1 for d in geometry.parameters[1][:2])
        self.before = tuple(geometry.parameters[2][:2])
        self.reach = (self.rows - 1) * self.dilation[0]
        self.line = self.wide * self.taps * self.channels  # elements of one row of columns
        fitting = max(COLUMN_BYTES // (4 * self.line) - self.reach, 512 // self.wide, 1)
        self.pieces = -(-self.tall // fitting)
        self.column_elements = (-(-self.tall // self.pieces) + self.reach) * self.line
        row = self.outputs * self.taps * self.channels
        self.sum_strides = (self.rows * row, row, self.taps * self.channels, self.channels, 1)
        self.key = f"weight blocks {vars(self)}"

    def emit(self, module: Any) -> Any:
        """void (ptr buffers): images, gradient, sums, columns."""
        name = "weight." + blake2b(self.key.encode(), digest_size=8).hexdigest()
        if name in module.globals:
            return module.globals[name]
        share = ir.Function(module, ir.FunctionType(ir.VoidType(), [reg.pointer, reg.i64, reg.i64]), name + ".share")
        share.linkage = "internal"
        b = ir.IRBuilder(share.append_basic_block())
        buffers, begin, end = share.args
        self.memory = [b.load(b.gep(buffers, [const(i)], source_etype=reg.pointer), typ=reg.pointer) for i in range(4)]
        loop(b, begin, end, lambda s: self._share(b, s))
        b.ret_void()
        made = ir.Function(module, ir.FunctionType(ir.VoidType(), [reg.pointer]), name)
        b = ir.IRBuilder(made.append_basic_block())
        runtime.parallel_for(b, share, made.args[0], self.shares, threads=self.shares)
        b.ret_void()
        return made

    def _share(self, b: Any, s: Any) -> None:
        """One thread's images."""
        _, _, sums, columns = self.memory
        self.sums = at(b, sums, b.mul(s, const(self.sum_strides[0])))
        self.columns = at(b, columns, b.mul(s, const(self.column_elements)))
        clear(b, self.sums, const(4 * self.sum_strides[0]))
        first, last = (b.udiv(b.mul(x, const(self.images)), const(self.shares)) for x in (s, b.add(s, const(1))))
        loop(b, first, last, lambda n: loop(b, const(0), const(self.pieces), lambda p: self._block(b, n, p)))

    def _block(self, b: Any, n: Any, p: Any) -> None:
        """Some rows of one image: their columns, and a product for each row of the kernel."""
        images, grads, *_ = self.memory
        begin, end = (b.udiv(b.mul(x, const(self.tall)), const(self.pieces)) for x in (p, b.add(p, const(1))))
        tall = b.sub(end, begin)
        image = at(b, images, b.mul(n, const(self.height * self.width * self.channels)))
        top = b.sub(begin, const(self.before[0]))
        loop(b, const(0), b.add(tall, const(self.reach)), lambda y: self._line(b, image, b.add(top, y), y))
        grad = at(b, grads, b.mul(b.add(b.mul(n, const(self.tall)), begin), const(self.wide * self.outputs)))
        product = reg.declared(
            b.module,
            "dnnl_sgemm",
            reg.i32,
            [
                reg.i8,
                reg.i8,
                reg.i64,
                reg.i64,
                reg.i64,
                ir.FloatType(),
                reg.pointer,
                reg.i64,
                reg.pointer,
                reg.i64,
                ir.FloatType(),
                reg.pointer,
                reg.i64,
            ],
        )
        one = ir.Constant(ir.FloatType(), 1.0)
        across = const(self.taps * self.channels)
        for row in range(self.rows):
            seen = at(b, self.columns, const(row * self.dilation[0] * self.line))
            out = at(b, self.sums, const(row * self.sum_strides[1]))
            b.call(
                product,
                [
                    ir.Constant(reg.i8, ord("T")),
                    ir.Constant(reg.i8, ord("N")),
                    const(self.outputs),
                    across,
                    b.mul(tall, const(self.wide)),
                    one,
                    grad,
                    const(self.outputs),
                    seen,
                    across,
                    one,
                    out,
                    across,
                ],
            )

    def _line(self, b: Any, image: Any, source: Any, y: Any) -> None:
        """Row `y` of the columns, from row `source` of the image, which may be padding."""
        target = at(b, self.columns, b.mul(y, const(self.line)))
        inside = b.and_(b.icmp_signed(">=", source, const(0)), b.icmp_signed("<", source, const(self.height)))
        with b.if_else(inside) as (real, padding):
            with real:
                start = at(b, image, b.mul(source, const(self.width * self.channels)))
                for tap in range(self.taps):
                    shift = tap * self.dilation[1] - self.before[1]
                    low = min(max(0, -shift), self.wide)
                    high = max(min(self.wide, self.width - shift), low)
                    for a, z in ((0, low), (high, self.wide)):
                        loop(
                            b,
                            const(a),
                            const(z),
                            lambda x, tap=tap: clear(
                                b, at(b, target, self._column(b, x, tap)), const(4 * self.channels)
                            ),
                        )
                    loop(
                        b,
                        const(low),
                        const(high),
                        lambda x, tap=tap, shift=shift: self._copy(
                            b,
                            at(b, start, b.mul(b.add(x, const(shift)), const(self.channels))),
                            at(b, target, self._column(b, x, tap)),
                        ),
                    )
            with padding:
                clear(b, target, const(4 * self.line))

    def _column(self, b: Any, x: Any, tap: int) -> Any:
        return b.add(b.mul(x, const(self.taps * self.channels)), const(tap * self.channels))

    def _copy(self, b: Any, source: Any, target: Any) -> None:
        kind = reg.register_type(FLOAT, LANES)

        def move(c: Any) -> None:
            place = b.mul(c, const(LANES))
            b.store(b.load(at(b, source, place), typ=kind, align=4), at(b, target, place), align=4)

        loop(b, const(0), const(self.channels // LANES), move)


def const(value: int) -> ir.Constant:
    """An i64."""
    return ir.Constant(reg.i64, value)


def at(b: Any, base: Any, elements: Any) -> Any:
    """The address of a float32 so many elements on."""
    return b.gep(base, [elements], source_etype=ir.FloatType())


def clear(b: Any, target: Any, nbytes: Any) -> None:
    """Zeros."""
    function = reg.declared(b.module, "memset", reg.pointer, [reg.pointer, reg.i32, reg.i64])
    b.call(function, [target, ir.Constant(reg.i32, 0), nbytes])


def loop(b: Any, begin: Any, end: Any, body: Any) -> None:
    """for i in range(begin, end): body(i)."""
    entry = b.block
    head, inside, after = (b.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(reg.i64)
    i.add_incoming(begin, entry)
    b.cbranch(b.icmp_signed("<", i, end), inside, after)
    b.position_at_end(inside)
    body(i)
    i.add_incoming(b.add(i, const(1)), b.block)
    b.branch(head)
    b.position_at_end(after)
