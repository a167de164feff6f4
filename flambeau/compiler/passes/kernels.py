"""From a group of fused nodes (fuse.py) to its kernel."""

from __future__ import annotations

import numpy as np

from flambeau.compiler.graph import Node, Ref, Value
from flambeau.compiler.kernel import Apply, Cast, Gather, Instruction, Kernel, Load, Number, Position, Reduce, Store
from flambeau.compiler.passes.fuse import MOVES, Group, alignment, compute_type


class KernelBuilder:
    """Writes the kernel of a group."""

    def __init__(self, group: Group, positions: dict[Value, Node], wanted: set[Value]):
        self.group = group
        self.positions = positions
        self.wanted = wanted
        inner = sorted(group.reduced or ())
        self.loops = [k for k in range(len(group.sizes)) if k not in inner] + inner
        self.inner = len(inner)
        self.body: list[Instruction] = []
        self.seen: dict[Instruction, int] = {}
        self.values: dict[Value, int] = {}
        self.slots: dict[Value, int] = {}

    def emit(self, instruction: Instruction) -> int:
        found = self.seen.setdefault(instruction, len(self.body))
        if found == len(self.body):
            self.body.append(instruction)
        return found

    def slot(self, value: Value) -> int:
        return self.slots.setdefault(value, len(self.slots))

    def strides(self, places: list[int | None], ref: Ref) -> tuple[int, ...]:
        along = {k: s for k, s, n in zip(places, ref.strides, ref.shape) if k is not None and n > 1}
        return tuple(along.get(k, 0) for k in self.loops)

    def operand(self, node: Node, position: int, dtype: np.dtype | None) -> int:
        x = node.inputs[position]
        if not isinstance(x, Ref):
            assert dtype is not None
            return self.emit(Number(x, dtype))
        if x.value in self.values:
            made, found = self.values[x.value], x.dtype
        elif x.value in self.positions:
            out_dim = self.positions[x.value].attrs["dim"] + len(self.group.dims[node]) - len(x.value.shape)
            k = self.group.dims[node][out_dim]
            made = self.emit(Number(0, np.dtype(np.int64)) if k is None else Position(self.loops.index(k)))
            found = np.dtype(np.int64)
        else:
            made = self.emit(Load(self.slot(x.value), self.strides(self.places(node, position), x), x.offset, x.dtype))
            found = x.dtype
        return made if dtype is None or found == dtype else self.emit(Cast(made, dtype))

    def places(self, node: Node, position: int) -> list[int | None]:
        dims = self.group.dims[node]
        return [None if a is None else dims[a] for a in alignment(node, position)]

    def add(self, node: Node) -> None:
        out = node.outputs[0]
        assert out is not None
        if node.op == "@reduce":
            x = node.inputs[0]
            if x.value in self.values:
                made = self.values[x.value]
            else:
                made = self.emit(Load(self.slot(x.value), self.strides(self.reduce_places[node], x), x.offset, x.dtype))
            if node.attrs["kind"] in ("sum", "prod") and x.dtype != out.dtype:
                made = self.emit(Cast(made, out.dtype))
            self.values[out] = self.emit(Reduce(node.attrs["kind"], made, out.dtype))
        elif node.op in MOVES:
            self.values[out] = self.operand(node, 0, out.dtype)
        elif node.op == "@gather":
            x = node.inputs[0]
            dim = node.attrs["dim"]
            index = self.operand(node, 1, np.dtype(np.int64))
            self.values[out] = self.emit(
                Gather(
                    self.slot(x.value), self.strides(self.places(node, 0), x), x.offset, x.dtype, index, x.strides[dim]
                )
            )
        elif node.op == "where":
            arguments: tuple[int, ...] = (
                self.operand(node, 0, np.dtype(bool)),
                self.operand(node, 1, out.dtype),
                self.operand(node, 2, out.dtype),
            )
            self.values[out] = self.emit(Apply("where", arguments, (), out.dtype))
        else:
            compute = compute_type(node)
            arguments = tuple(self.operand(node, i, compute) for i in range(len(node.inputs)))
            self.values[out] = self.emit(Apply(node.op, arguments, tuple(sorted(node.attrs.items())), out.dtype))
        if out in self.wanted:
            self.stores.append((node, out))

    def build(self) -> tuple[Kernel, tuple[Value, ...], tuple[Value, ...], tuple[Value, ...]]:
        """The kernel, its buffers, and which of them it reads and writes."""
        self.stores: list[tuple[Node, Value]] = []
        self.reduce_places = self.group.reduce_places
        for node in self.group.members:
            self.add(node)
        reads = tuple(self.slots)
        for node, out in self.stores:
            strides = self.strides(self.group.dims[node], out.whole())
            self.body.append(Store(self.slot(out), strides, 0, self.values[out], out.dtype))
        kernel = Kernel(tuple(self.group.sizes[k] for k in self.loops), self.inner, tuple(self.body), len(self.slots))
        return kernel, tuple(self.slots), reads, tuple(out for _, out in self.stores)
