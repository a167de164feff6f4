"""Products by our own code: every way an operand may lie, edges, what sums begin with and what follows; the passes."""

from __future__ import annotations

import numpy as np
import pytest

from flambeau.compiler.graph import Graph, Node, Ref, Value
from flambeau.compiler.lower import skinny
from flambeau.compiler.passes import products
from flambeau.compiler.steps import Lowering, RoutineStep
from tests.compiler import library_steps
from tests.compiler.library_steps import Program

jit = pytest.importorskip("flambeau.backends.llvm.jit")
panels = pytest.importorskip("flambeau.compiler.lower.panels")

pytestmark = pytest.mark.skipif(not skinny.possible(), reason="the library has something better here")

SIZES = [(64, 110, 256), (65, 33, 97), (7, 300, 50), (130, 64, 8), (2, 2, 2), (16, 1000, 48), (300, 7, 31)]


@pytest.fixture(autouse=True, params=[0, 4], ids=["together", "apart"])
def every_size(monkeypatch, request):
    """Small products go the same way, and threads divide them; the panels are packed together, or by each thread."""
    monkeypatch.setattr(skinny, "FEW", request.param)
    monkeypatch.setattr(skinny, "LEAST", 0)
    monkeypatch.setattr(skinny, "PARALLEL", 1 << 15)


def matrix(rows: int, columns: int, seed: int, order: str = "C") -> np.ndarray:
    """Random numbers; "F": the memory runs along columns; "W": rows lie apart."""
    made = np.random.default_rng(seed).standard_normal((rows, columns + 5), dtype=np.float32)
    return made[:, 2:-3] if order == "W" else np.array(made[:, 5:], order=order)


def computed(pairs, out_order="C", bias=None, start=None, post=(), threads=1):
    """The result of a product by our own code."""
    program = Program()
    refs = [(program.ref(x), program.ref(y)) for x, y in pairs]
    rows, columns = pairs[0][0].shape[0], pairs[0][1].shape[1]
    strides = (columns, 1) if out_order == "C" else (1, rows)
    out = program.graph.value((rows, columns), strides, np.dtype(np.float32))
    more = {"bias": None if bias is None else program.ref(bias), "post": post}
    more["start"] = None if start is None else program.ref(start)
    steps = skinny.steps(Lowering(program.graph, threads), refs, out.whole(), **more)
    assert steps is not None and all(isinstance(step, RoutineStep) for step in steps)
    program.run(steps)
    return program.show(out.whole())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows, depth, columns", SIZES)
def test_product(rows, depth, columns, threads):
    for orders in ["CCC", "CFC", "FCC", "FFC", "CFF", "WWC", "CCF", "FFF"]:
        x, y = matrix(rows, depth, 1, orders[0]), matrix(depth, columns, 2, orders[1])
        found = computed([(x, y)], orders[2], threads=threads)
        np.testing.assert_allclose(found, x.astype(np.float64) @ y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows, depth, columns", SIZES)
def test_bias_and_what_follows(rows, depth, columns, threads):
    """A layer: weights as they are kept, (out, in)."""
    x, w, bias = matrix(rows, depth, 1), matrix(columns, depth, 2), matrix(1, columns, 3)[0]
    plain = x @ w.T + bias
    np.testing.assert_allclose(computed([(x, w.T)], bias=bias, threads=threads), plain, rtol=1e-4, atol=1e-4)
    for post, expected in ((("relu",), np.maximum(plain, 0)), (("leaky_relu", 0.2), np.maximum(plain, 0.2 * plain))):
        if skinny.with_post(shape_of(x, w), [post]) is not None:
            found = computed([(x, w.T)], bias=bias, post=[post], threads=threads)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def shape_of(x: np.ndarray, w: np.ndarray) -> skinny.Shape | None:
    """The way of a layer with the lanes along the batch."""
    program = Program()
    out = program.graph.value((w.shape[0], x.shape[0]), (1, w.shape[0]), np.dtype(np.float32))
    return skinny.shape_of([(program.ref(w), program.ref(x.T))], out.whole(), None, None, True)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows, depth, columns", SIZES)
def test_sums(rows, depth, columns, threads):
    """The gradient of a weight that was used twice, added to what is there."""
    g, x = [matrix(depth, rows, n) for n in (1, 2)], [matrix(depth, columns, n) for n in (3, 4)]
    start = matrix(rows, columns, 5)
    once, twice = g[0].T @ x[0], g[0].T @ x[0] + g[1].T @ x[1]
    both = [(g[0].T, x[0]), (g[1].T, x[1])]
    np.testing.assert_allclose(computed(both[:1], start=start, threads=threads), once + start, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(computed(both, threads=threads), twice, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(computed(both, start=start, threads=threads), twice + start, rtol=1e-4, atol=1e-4)
    turned = computed([(g[0].T, x[0])], "F", start=np.asfortranarray(start), threads=threads)
    np.testing.assert_allclose(turned, once + start, rtol=1e-4, atol=1e-4)


def test_nan_and_infinities_stay_where_they_belong():
    x, w, bias = matrix(64, 40, 1), matrix(50, 40, 2), np.zeros(50, np.float32)
    x[3, 7], x[5, 1], w[8, 2] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        plain = x @ w.T
    found = computed([(x, w.T)], bias=bias, post=[("relu",)])
    np.testing.assert_allclose(found, np.where(plain < 0, 0, plain), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lanes", [4, 16])
def test_vectors_of_other_machines(lanes, monkeypatch):
    for module in (jit, panels):
        monkeypatch.setattr(module, "vector_lanes", lambda dtype: lanes)
    monkeypatch.setattr(library_steps, "CODES", {})
    test_product(65, 33, 97, 1)
    test_sums(65, 33, 97, 2)
    test_bias_and_what_follows(65, 33, 97, 1)


def test_what_does_not_fit_is_left_to_the_library():
    program = Program()
    x, y = (program.ref(matrix(400, 400, n)) for n in (1, 2))
    out = program.graph.value((400, 400), (400, 1), np.dtype(np.float32)).whole()
    assert skinny.way([(x, y)], out, 1) is None  # neither matrix is small
    every_other = Ref(x.value, (50, 50), (800, 2), 0)
    small = program.graph.value((50, 50), (50, 1), np.dtype(np.float32)).whole()
    assert skinny.way([(every_other, every_other)], small, 1) is None  # no rows in either direction


# ---- the passes ----------------------------------------------------------------------------------------


def graph_of(*shapes: tuple[int, int]) -> tuple[Graph, list[Value]]:
    """A graph with matrices as inputs."""
    graph = Graph()
    made = [graph.value(shape, (shape[1], 1), np.dtype(np.float32)) for shape in shapes]
    graph.inputs += made
    return graph, made


def add_node(graph: Graph, op: str, shape: tuple[int, ...], *inputs: Ref, **attrs) -> Value:
    """The value of a new node."""
    strides = tuple(int(np.prod(shape[d + 1 :])) for d in range(len(shape)))
    out = graph.value(shape, strides, np.dtype(np.float32))
    graph.nodes.append(Node(op, list(inputs), attrs, [out]))
    return out


def same_as_before(graph: Graph, change) -> None:
    """Assert that the graph's outputs are those it had before the change."""
    from flambeau.compiler import interpreter

    arrays = [matrix(*value.shape, n) for n, value in enumerate(graph.inputs)]
    expected = interpreter.run(graph, arrays)
    change(graph)
    program = Program(graph)
    found, _ = program.execute(arrays)
    for mine, theirs in zip(found, expected):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_columns_that_nobody_reads_are_not_computed():
    graph, (g, w) = graph_of((16, 40), (40, 30))
    dx = add_node(graph, "matmul", (16, 30), g.whole(), w.whole())
    tail = add_node(graph, "neg", (16, 4), Ref(dx, (16, 4), (30, 1), 26))
    part = add_node(graph, "neg", (3, 2), Ref(dx, (3, 2), (60, 1), 30 + 24))
    graph.outputs += [tail.whole(), part.whole()]
    same_as_before(graph, products.narrow)
    (node,) = [node for node in graph.nodes if node.op == "matmul"]
    assert node.outputs[0].shape == (16, 6)


def test_columns_that_somebody_reads_stay():
    for shape, strides, offset in [((16, 30), (30, 1), 0), ((2, 16), (29, 30), 0), ((4, 2), (31, 1), 28)]:
        graph, (g, w) = graph_of((16, 40), (40, 30))
        dx = add_node(graph, "matmul", (16, 30), g.whole(), w.whole())
        graph.outputs.append(add_node(graph, "neg", shape, Ref(dx, shape, strides, offset)).whole())
        assert products.narrow(graph) == 0
    graph, (g, w) = graph_of((16, 40), (40, 30))
    dx = add_node(graph, "matmul", (16, 30), g.whole(), w.whole())
    graph.outputs.append(Ref(dx, (16, 4), (30, 1), 0))  # the caller sees all of the memory
    assert products.narrow(graph) == 0


def transposed(value: Value) -> Ref:
    return Ref(value, value.shape[::-1], value.strides[::-1], 0)


def test_gradients_that_meet_are_one_product():
    graph, (g1, x1, g2, x2, old) = graph_of((16, 40), (16, 30), (8, 40), (8, 30), (40, 30))
    first = add_node(graph, "matmul", (40, 30), transposed(g1), x1.whole())
    second = add_node(graph, "matmul", (40, 30), transposed(g2), x2.whole())
    total = add_node(graph, "add", (40, 30), first.whole(), second.whole())
    third = add_node(graph, "matmul", (40, 30), transposed(g1), x1.whole())
    more = add_node(graph, "add", (40, 30), old.whole(), third.whole())
    graph.outputs += [total.whole(), more.whole()]
    same_as_before(graph, lambda graph: products.join(graph, 2))
    assert [(node.op, node.attrs["count"]) for node in graph.nodes] == [("@products", 2), ("@products", 1)]


def test_products_that_somebody_else_reads_stay():
    graph, (g, x, old) = graph_of((16, 40), (16, 30), (40, 30))
    first = add_node(graph, "matmul", (40, 30), transposed(g), x.whole())
    total = add_node(graph, "add", (40, 30), first.whole(), old.whole())
    graph.outputs += [total.whole(), first.whole()]
    assert products.join(graph, 1) == 0
    graph, (g, x) = graph_of((16, 40), (16, 30))
    first = add_node(graph, "matmul", (40, 30), transposed(g), x.whole())
    graph.outputs.append(add_node(graph, "add", (40, 30), first.whole(), first.whole()).whole())
    assert products.join(graph, 1) == 0
