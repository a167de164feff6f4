"""Fusion: elementwise operations, reductions and look-ups grouped into kernels.

Nodes are taken in order; each joins the group of what it reads if their loops agree, else it begins a group. Groups run
in the order they were begun, and a node only joins a group that comes no earlier than all it reads, so that the order
always holds. A group has dimensions of its own: whatever a member reads or makes is placed on them by its strides.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np

from flambeau.compiler.graph import Graph, Node, Ref, Value, common_shape
from flambeau.core.dispatch import REGISTRY

TYPES = frozenset(map(np.dtype, "float32 float64 int8 int16 int32 int64 uint8 bool".split()))
LIMIT = 48  # members of a group: larger kernels only cost compile time
NEAR = 4  # a node joins a group for what both read only among the latest groups: further back it would be kept for long
ROW = 16384  # elements of a row that is read again while the cache holds it
MOVES = ("@copy", "to_copy")
_INTEGER_TRAPS = ("floor_divide", "div_floor", "div_trunc", "remainder", "fmod")  # raise for a zero divisor

Layout = tuple[int, dict[int, int]]  # offset, and the stride along each dimension of the group


@dataclass(eq=False, repr=False)
class Group:
    """Nodes that become one kernel, or (`fused` false) one node that is lowered by itself."""

    fused: bool
    sizes: list[int] = field(default_factory=list)
    members: list[Node] = field(default_factory=list)
    layouts: dict[Value, list[Layout]] = field(default_factory=dict)
    made: set[Value] = field(default_factory=set)
    dims: dict[Node, list[int | None]] = field(default_factory=dict)  # of each member's output: group dimensions
    reduced: frozenset[int] | None = None
    reduce_places: dict[Node, list[int | None]] = field(default_factory=dict)  # of the operand of each reduction
    after: set[Value] = field(default_factory=set)  # made, and dependent on a reduction
    gone: bool = False

    @functools.cached_property
    def wide(self) -> frozenset[int]:
        """The dimensions that have more than one index."""
        return frozenset([k for k, n in enumerate(self.sizes) if n > 1])

    @property
    def kept(self) -> frozenset[int]:
        return frozenset(range(len(self.sizes))) - (self.reduced or frozenset())


def fusible(node: Node) -> bool:
    """Whether a node can be part of a kernel."""
    out = node.outputs[0] if len(node.outputs) == 1 else None
    if out is None or out.dtype not in TYPES or out.size == 0 or node.effect:
        return False
    for x in node.refs:
        if x.value.dtype not in TYPES or 0 in x.shape:
            return False
    if node.op in ("@reduce", "@gather", "where"):
        return True
    if node.op in MOVES:
        return node.inputs[0].shape == out.shape
    op = REGISTRY.get(node.op)
    if op is None or op.scalar is None or (op.outputs != 1):
        return False
    if not node.refs or any(x is None for x in node.inputs):
        return False
    if node.op in _INTEGER_TRAPS and compute_type(node).kind in "iu":
        return False
    if common_shape(node.refs) != out.shape:
        return False
    try:
        hash(tuple(node.attrs.items()))
    except TypeError:
        return False
    return len(node.refs) == len(node.inputs) or all(isinstance(x, (Ref, int, float)) for x in node.inputs)


def compute_type(node: Node) -> np.dtype:
    """The dtype an elementwise node computes in."""
    if node.compute is not None:
        return np.dtype(node.compute)
    return node.refs[0].dtype


def alignment(node: Node, position: int) -> list[int | None]:
    """For each dimension of an operand, the dimension of the output it runs along (None: not along any)."""
    x = node.inputs[position]
    out = node.outputs[0]
    assert out is not None
    rank = len(x.shape)
    if node.op == "@gather":
        dim, count = node.attrs["dim"], len(node.inputs[1].shape)
        if position == 1:
            return [dim + j for j in range(rank)]
        return [d if d < dim else None if d == dim else d + count - 1 for d in range(rank)]
    if node.op == "@reduce":
        dims, keep = node.attrs["dims"], node.attrs["keepdim"]
        found: list[int | None] = []
        at = 0
        for d in range(rank):
            if d in dims:
                found.append(None)
                at += keep
            else:
                found.append(at)
                at += 1
        return found
    shift = len(out.shape) - rank
    return [d + shift for d in range(rank)]


class Fusion:
    """Groups of a graph."""

    def __init__(self, graph: Graph, threads: int):
        self.graph = graph
        self.threads = threads
        self.groups: list[Group] = []
        self.order: dict[Group, int] = {}
        self.home: dict[Value, Group] = {}
        self.readers: dict[Value, list[Group]] = {}  # groups that read a value from memory
        self.positions: dict[Value, Node] = {}

    def run(self) -> list[Group]:
        for node in self.graph.nodes:
            if node.op == "@position":
                value = node.outputs[0]
                assert value is not None
                self.positions[value] = node
            elif fusible(node):
                self.place(node)
            else:
                self.add(Group(False, members=[node]), node)
        for group in self.groups:
            if group.fused and not group.gone:
                self.delay(group)
        return [group for group in self.groups if not group.gone and group.members]

    # ---- groups --------------------------------------------------------------------------------

    def add(self, group: Group, node: Node) -> None:
        if group not in self.order:
            self.order[group] = len(self.groups)
            self.groups.append(group)
        for value in node.outputs:
            if value is not None:
                self.home[value] = group
                group.made.add(value)
        for ref in node.refs:
            if ref.value not in self.positions and self.home.get(ref.value) is not group:
                readers = self.readers.setdefault(ref.value, [])
                if group not in readers:
                    readers.append(group)

    def place(self, node: Node) -> None:
        producers = {self.home[ref.value] for ref in node.refs if ref.value in self.home}
        latest = max((self.order[g] for g in producers), default=-1)
        candidates = [g for g in producers if self.order[g] == latest and g.fused]
        out = node.outputs[0]
        assert out is not None
        if out.size > 1 or node.op == "@reduce":
            for ref in node.refs:
                for group in self.readers.get(ref.value, ()):
                    near = self.order[group] >= max(latest, len(self.groups) - NEAR)
                    if group.fused and not group.gone and near and group not in candidates:
                        candidates.append(group)
        for group in candidates:
            dims = self.fit(group, node)
            if dims is not None:
                self.join(group, node, dims)
                self.sink(group, node)
                if node.op == "@reduce":
                    self.join_sums(group)
                return
        self.join(*self.begin(node))

    def begin(self, node: Node) -> tuple[Group, Node, list[int | None]]:
        """A new group shaped by one node."""
        out = node.outputs[0]
        assert out is not None
        group = Group(True)
        if node.op == "@reduce":
            x = node.inputs[0]
            group.sizes = list(x.shape)
            dims = [d if n > 1 else None for d, n in enumerate(x.shape)]
        else:
            group.sizes = list(out.shape)
            dims = [d if n > 1 else None for d, n in enumerate(out.shape)]
        return group, node, dims

    def join(self, group: Group, node: Node, dims: list[int | None]) -> None:
        """`dims`: the group's dimension for each dimension of the output (of the operand, for a reduction)."""
        out = node.outputs[0]
        assert out is not None
        self.add(group, node)
        group.members.append(node)
        depends = self.depends(group, node)
        if node.op == "@reduce":
            group.reduced = frozenset(k for d, k in enumerate(dims) if k is not None and d in node.attrs["dims"])
            self.note_load(group, node.inputs[0], dims)
            group.reduce_places[node] = dims
            dims = out_dims_of_reduce(node, dims)
            depends = True
        else:
            for position, x in enumerate(node.inputs):
                if isinstance(x, Ref):
                    places = [None if a is None else dims[a] for a in alignment(node, position)]
                    self.note_load(group, x, places)
        if depends:
            group.after.add(out)
        group.dims[node] = dims
        group.layouts.setdefault(out, []).append(
            (0, {k: s for k, s, n in zip(dims, out.strides, out.shape) if k is not None and n > 1})
        )

    def note_load(self, group: Group, ref: Ref, places: list[int | None]) -> None:
        if ref.value in group.made or ref.value in self.positions:
            return
        layout = (
            ref.offset,
            {k: s for k, s, n in zip(places, ref.strides, ref.shape) if k is not None and n > 1 and s},
        )
        known = group.layouts.setdefault(ref.value, [])
        if layout not in known:
            known.append(layout)

    # ---- does a node fit ---------------------------------------------------------------------------

    def match(self, group: Group, ref: Ref) -> list[int | None] | None:
        """The group's dimension for each dimension of a window; None if it does not lie on what the group knows."""
        for offset, strides in group.layouts.get(ref.value, ()):
            if offset != ref.offset:
                continue
            places: list[int | None] = []
            free = dict(strides)
            for n, s in zip(ref.shape, ref.strides):
                if n == 1 or s == 0:
                    places.append(None)
                    continue
                for k, stride in free.items():
                    if stride == s and group.sizes[k] == n:
                        break
                else:
                    break
                places.append(k)
                del free[k]
            else:
                if ref.value in group.made and any(group.sizes[k] > 1 for k in free):
                    continue  # shows only part of what the group makes
                return places
        return None

    def fit(self, group: Group, node: Node) -> list[int | None] | None:
        """Where the node's output (a reduction's operand) lies on the group's dimensions, if it may join."""
        if len(group.members) >= LIMIT:
            return None
        out = node.outputs[0]
        assert out is not None
        is_reduce = node.op == "@reduce"
        shape = node.inputs[0].shape if is_reduce else out.shape
        dims: list[int | None] = [None] * len(shape)
        for position, x in enumerate(node.inputs):
            if not isinstance(x, Ref) or x.value in self.positions:
                continue
            inside = x.value in group.made
            if inside and node.op == "@gather" and position == 0:
                return None
            places = self.match(group, x)
            if places is None:
                if inside:
                    return None
                continue
            run = range(len(shape)) if is_reduce else alignment(node, position)
            for a, k in zip(run, places):
                if a is not None and k is not None:
                    if dims[a] is not None and dims[a] != k:
                        return None
                    dims[a] = k
        used = [k for k in dims if k is not None]
        if len(set(used)) != len(used):
            return None
        for d, n in enumerate(shape):
            if n > 1 and dims[d] is None:
                free = [k for k, size in enumerate(group.sizes) if size == n and k not in used]
                if not free:
                    return None
                dims[d] = free[0]
                used.append(free[0])
        return dims if self.allowed(group, node, dims) else None

    def allowed(self, group: Group, node: Node, dims: list[int | None]) -> bool:
        covered, full = {k for k in dims if k is not None}, group.wide
        depends = self.depends(group, node)
        if node.op == "@reduce":
            over = frozenset(k for d, k in enumerate(dims) if k is not None and d in node.attrs["dims"])
            if covered != full or not over:
                return False
            if group.reduced is not None and (over != group.reduced or (depends and not self.is_row(group, over))):
                return False
            if group.reduced is None and depends:
                return False
            return True
        if covered == full:
            return not depends or (group.reduced is not None and self.is_row(group, group.reduced))
        if group.reduced is None or covered != full - group.reduced:
            return False
        # A node on the kept dimensions: it must read a reduction, else it would run with every point of the row.
        return depends

    def depends(self, group: Group, node: Node) -> bool:
        """Whether a node reads what a reduction of the group has to do with."""
        return bool(group.after) and any(ref.value in group.after for ref in node.refs)

    def is_row(self, group: Group, reduced: frozenset[int]) -> bool:
        """Whether the reduced dimensions lie along memory and a row is short enough to be read again from the cache."""
        length = math.prod(group.sizes[k] for k in reduced)
        rows = math.prod(group.sizes) // length
        if length > ROW or (rows < self.threads and length * rows > ROW // 4):
            return False
        votes = 0
        for layouts in group.layouts.values():
            for _, strides in layouts:
                if len(strides) > 1 or rows == 1:
                    votes += sum(1 if k in reduced else -1 for k, s in strides.items() if s == 1)
        return votes > 0

    # ---- moving single nodes to where they are used -----------------------------------------------------

    def delay(self, group: Group) -> None:
        """Move what only one later group reads into that group, if it can be made there from what lies in memory."""
        outside = {ref.value for ref in (*self.graph.outputs, *self.graph.writes.values())}
        for node in reversed(list(group.members)):
            out = node.outputs[0]
            assert out is not None
            readers = self.readers.get(out, ())
            if node.op in ("@reduce", "@gather") or out in outside or out.size == 1 or len(readers) != 1:
                continue
            (later,) = readers
            if not later.fused or any(ref.value is out for member in group.members for ref in member.refs):
                continue
            self.move(node, group, later, outside)

    def move(self, node: Node, group: Group, later: Group, outside: set[Value]) -> None:
        out = node.outputs[0]
        assert out is not None
        places = self.match(later, out.whole())
        if places is None or len(later.members) >= LIMIT or len(later.layouts[out]) != 1:
            return
        full = {k for k, n in enumerate(later.sizes) if n > 1}
        if {k for k in places if k is not None} != full:
            return
        more = 0
        for ref in node.refs:
            kept = ref.value not in group.made or ref.value in outside or self.readers.get(ref.value)
            if not kept or ref.value in self.positions:
                return
            if ref.value not in later.layouts and ref.value not in later.made and math.prod(ref.shape) * 8 > out.size:
                more += 1
        if more > 1:
            return
        group.members.remove(node)
        group.made.discard(out)
        group.after.discard(out)
        dims = group.dims.pop(node)
        del dims
        later.members.insert(0, node)
        later.made.add(out)
        later.dims[node] = places
        self.home[out] = later
        self.readers[out] = []
        for position, x in enumerate(node.inputs):
            if isinstance(x, Ref):
                self.note_load(later, x, [None if a is None else places[a] for a in alignment(node, position)])
                known = self.readers.setdefault(x.value, [])
                if x.value not in later.made and later not in known:
                    known.append(later)

    # ---- moving an earlier group into a later one -----------------------------------------------------

    def sink(self, group: Group, node: Node) -> None:
        """Merge the other groups that the node reads into its own, where nobody needs their results earlier."""
        for position, x in enumerate(node.inputs):
            other = self.home.get(x.value) if isinstance(x, Ref) else None
            if other is None or other is group or not other.fused or other.gone or node.op == "@gather":
                continue
            self.merge(other, group, node, position)

    def merge(self, early: Group, late: Group, node: Node, position: int) -> None:
        if len(early.members) + len(late.members) > LIMIT:
            return
        ref = node.inputs[position]
        places = self.match(early, ref)
        if places is None:
            return
        dims = late.dims[node]
        if node.op == "@reduce":
            return
        onto: dict[int, int] = {}
        for a, k in zip(alignment(node, position), places):
            if k is not None:
                target = None if a is None else dims[a]
                if target is None:
                    return
                onto[k] = target
        wide = {k for k, n in enumerate(early.sizes) if n > 1}
        if set(onto) != wide or {k for k, n in enumerate(late.sizes) if n > 1} != set(onto.values()):
            return
        if early.reduced is not None:
            return
        if self.needed_before(early, late):
            return
        self.absorb(early, late, onto)

    def needed_before(self, early: Group, late: Group) -> bool:
        """Whether a group between the two reads what the early one makes."""
        border = self.order[late]
        return any(
            self.order[g] < border and g is not early and not g.gone
            for value in early.made
            for g in self.readers.get(value, ())
        )

    def join_sums(self, late: Group) -> None:
        """Merge a recent group of reductions over the same elements into this one: one pass over memory for both."""
        for value in list(late.layouts):
            for other in list(self.readers.get(value, ())):
                if (
                    other is late
                    or other.gone
                    or not other.fused
                    or other.reduced is None
                    or self.order[other] < len(self.groups) - 2 * NEAR
                    or len(other.members) + len(late.members) > LIMIT
                    or value not in other.layouts
                    or reads_from(late, other)
                    or reads_from(other, late)
                    or not self.movable(other, late)
                ):
                    continue
                onto = self.same_space(other, late, value)
                if onto is not None and frozenset(onto[k] for k in other.reduced) == late.reduced:
                    self.absorb(other, late, onto)

    def movable(self, other: Group, late: Group) -> bool:
        """Whether a group may run in the place of another one."""
        if self.order[other] < self.order[late]:
            return not self.needed_before(other, late)
        border = self.order[late]
        return all(
            self.order[self.home[ref.value]] < border
            for node in other.members
            for ref in node.refs
            if ref.value in self.home and ref.value not in other.made
        )

    def same_space(self, early: Group, late: Group, value: Value) -> dict[int, int] | None:
        """Which dimension of the late group each of the early one is, told by how both read a value."""
        wide = {k for k, n in enumerate(early.sizes) if n > 1}
        for offset, strides in early.layouts[value]:
            for other, there in late.layouts[value]:
                if offset != other or set(strides) != wide:
                    continue
                by_stride = {(s, late.sizes[k]): k for k, s in there.items()}
                onto = {k: by_stride.get((s, early.sizes[k])) for k, s in strides.items()}
                found = {k: v for k, v in onto.items() if v is not None}
                if len(found) == len(wide) and set(found.values()) == {k for k, n in enumerate(late.sizes) if n > 1}:
                    return found
        return None

    def absorb(self, early: Group, late: Group, onto: dict[int, int]) -> None:
        """Make the members of an earlier group the first ones of a later group."""
        early.gone = True
        for value, layouts in early.layouts.items():
            known = late.layouts.setdefault(value, [])
            known.extend((o, {onto[k]: s for k, s in strides.items() if k in onto}) for o, strides in layouts)
        for member in early.members:
            late.dims[member] = [None if k is None else onto.get(k) for k in early.dims[member]]
            if member in early.reduce_places:
                late.reduce_places[member] = [None if k is None else onto.get(k) for k in early.reduce_places[member]]
        late.after |= early.after
        late.members = early.members + late.members
        late.made |= early.made
        for value in early.made:
            self.home[value] = late
        for readers in self.readers.values():
            if early in readers:
                readers.remove(early)
                if late not in readers:
                    readers.append(late)
        for value in early.made:
            if late in self.readers.get(value, ()):
                self.readers[value].remove(late)


def reads_from(reader: Group, maker: Group) -> bool:
    """Whether a member of one group reads what another group makes."""
    return any(ref.value in maker.made for node in reader.members for ref in node.refs)


def out_dims_of_reduce(node: Node, dims: list[int | None]) -> list[int | None]:
    reduced, keep = node.attrs["dims"], node.attrs["keepdim"]
    found: list[int | None] = []
    for d, k in enumerate(dims):
        if d not in reduced:
            found.append(k)
        elif keep:
            found.append(None)
    return found


def fuse(graph: Graph, threads: int) -> tuple[list[Group], dict[Value, Node]]:
    """The groups of a graph in the order they run, and the nodes that are positions."""
    fusion = Fusion(graph, threads)
    return fusion.run(), fusion.positions
