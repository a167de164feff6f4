"""What became of a function: its graph before and after the passes, the kernels and calls, the memory plan, the
costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau.compiler.api import ATTEMPTS, Compiled
from flambeau.compiler.graph import Node, Ref
from flambeau.compiler.kernel import Apply, Gather, Kernel, Load, Reduce, Store
from flambeau.compiler.printing import node_text
from flambeau.compiler.program import Program, describe
from flambeau.compiler.steps import HostStep, KernelStep, LibraryStep, Step


class Explanation:
    """The report about one captured call; `str` gives it as text.

    `before` and `after` are the graph's text around the passes, `parts` a list of (title, nodes, steps, FLOPs, bytes),
    `arena` the bytes of memory for everything between, `reason` why a function was not captured (or None).
    """

    def __init__(self, before: str, program: Program | None, reason: str | None):
        self.before = before
        self.reason = reason
        self.after = "" if program is None else str(program.graph)
        self.arena = 0 if program is None else program.plan.size
        self.apart = 0 if program is None else sum(v.nbytes for v in {*program.plan.offsets, *program.plan.same})
        self.parts = (
            []
            if program is None
            else [(titles(steps), nodes, steps, *costs(nodes, steps)) for nodes, steps in program.parts]
        )
        self.counts = {} if program is None else counted(program.plan.steps)

    @property
    def flops(self) -> float:
        return sum(part[3] for part in self.parts)

    @property
    def nbytes(self) -> float:
        return sum(part[4] for part in self.parts)

    def __str__(self) -> str:
        if self.reason is not None:
            return f"runs eagerly: {self.reason}"
        lines = ["== captured", self.before, "", "== after the passes", self.after, "", "== steps"]
        for number, (title, nodes, _, flops, nbytes) in enumerate(self.parts):
            lines.append(f"{number:3} {title}   [{amount(flops)}FLOP, {amount(nbytes)}B]")
            lines += [f"      {node_text(node)}" for node in nodes]
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        lines += [
            "",
            "== in all",
            f"{kinds}; {amount(self.flops)}FLOP, {amount(self.nbytes)}B moved",
            f"memory between: {amount(self.arena)}B in one arena ({amount(self.apart)}B without sharing)",
        ]
        return "\n".join(lines)

    __repr__ = __str__


def explain(function: Any) -> Callable[..., Explanation]:
    """`explain(fn)(*args)`: calls fn until it is captured (once, or twice if the first call makes state) and reports.

    The calls are real: what fn does to parameters and state is done.
    """

    def call(*args: Any, **kwargs: Any) -> Explanation:
        compiled = Compiled(getattr(function, "function", function))
        compiled.keep_text = True
        for _ in range(ATTEMPTS):
            compiled(*args, **kwargs)
            for entries in compiled.entries.values():
                entry = entries[0]
                program = entry.execute
                return Explanation(entry.text, program if isinstance(program, Program) else None, None)
        return Explanation("", None, next(iter(compiled.eager.values()), "it was not captured"))

    return call


def titles(steps: list[Step]) -> str:
    return "; ".join(describe(step) for step in steps) or "nothing"


def counted(steps: list[Step]) -> dict[str, int]:
    """How many steps there are of each kind."""
    found: dict[str, int] = {}
    for step in steps:
        kind = (
            "kernels"
            if isinstance(step, KernelStep)
            else "library calls"
            if isinstance(step, LibraryStep)
            else "calls of Python"
            if isinstance(step, HostStep)
            else "routines"
        )
        found[kind] = found.get(kind, 0) + 1
    return found


def costs(nodes: list[Node], steps: list[Step]) -> tuple[float, float]:
    """Estimated floating point operations and bytes moved: one operation for each elementwise op at each point."""
    flops = sum(product_flops(node) for node in nodes)
    nbytes = 0.0
    for step in steps:
        if isinstance(step, KernelStep):
            more, moved = kernel_costs(step.kernel)
            flops += more
            nbytes += moved
        elif isinstance(step, HostStep):
            nbytes += sum(x.value.nbytes for x in step.inputs if isinstance(x, Ref))
            nbytes += sum(v.nbytes for v in step.outputs if v is not None)
        else:
            nbytes += sum(math.prod(ref.shape) * ref.dtype.itemsize for ref in step.operands)
    return flops, nbytes


def kernel_costs(kernel: Kernel) -> tuple[float, float]:
    points = math.prod(kernel.shape)
    kept = math.prod(kernel.shape[: len(kernel.shape) - kernel.inner])
    flops = sum(points for i in kernel.body if isinstance(i, (Apply, Reduce)))
    nbytes = 0
    for i in kernel.body:
        if isinstance(i, Gather):
            nbytes += points * i.dtype.itemsize
        elif isinstance(i, (Load, Store)):
            varies = [n for n, s in zip(kernel.shape, i.strides) if s]
            nbytes += math.prod(varies) * i.dtype.itemsize
    return float(max(flops, kept)), float(nbytes)


def product_flops(node: Node) -> float:
    """Operations of convolutions and matrix products."""
    out = node.outputs[0]
    if out is None:
        return 0.0
    op = node.op.removesuffix("_chain")
    refs = list(node.refs)
    if op == "matmul" and refs:
        return 2.0 * out.size * refs[0].shape[-1]
    if op == "linear" and refs:
        return 2.0 * out.size * refs[0].shape[-1]
    if op in ("convolution", "@scaled_convolution"):
        return 2.0 * out.size * math.prod(refs[1].shape[1:])
    if op == "transposed_convolution":
        return 2.0 * math.prod(refs[0].shape) * math.prod(refs[1].shape[1:])
    if op == "weight_gradient":
        return 2.0 * math.prod(refs[0].shape) * math.prod(out.shape[1:])
    return 0.0


def amount(number: float) -> str:
    """1234567 -> "1.23 M"."""
    for unit in ("", "k", "M", "G", "T"):
        if number < 1000 or unit == "T":
            return f"{number:.3g} {unit}"
        number /= 1000
    return ""


__all__ = ["Explanation", "explain"]
