"""The testers are tested: a checker that accepts everything looks exactly like a healthy library."""

import numpy as np
import pytest

import flambeau as torch
from flambeau.autograd import gradcheck, gradgradcheck
from flambeau.core import dispatch
from flambeau.core.dispatch import REGISTRY, primitive
from flambeau.ops.pointwise import mul
from tests.ops import test_registry as table


@pytest.fixture
def declare():
    """Declares primitives for one test and takes them out of the registry again."""
    before = dict(REGISTRY)
    yield lambda name, **options: primitive(name, **options)
    REGISTRY.clear()
    REGISTRY.update(before)


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("fast", [False, True])
def test_gradcheck_catches_a_wrong_derivative(declare, fast):
    op = declare("cube_with_the_derivative_of_a_square", elementwise=True)(lambda x: x**3)
    op.vjp(x=lambda grad, x: mul(grad, mul(2.0, x)))
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(op, (leaf(0.3, 0.8),), fast_mode=fast)


def test_gradcheck_catches_a_derivative_that_is_wrong_for_one_input_only(declare):
    op = declare("product_with_swapped_derivatives", elementwise=True)(lambda x, y: x * y)
    op.vjp(x=lambda grad, y: mul(grad, y), y=lambda grad, y: mul(grad, y))
    with pytest.raises(RuntimeError, match="with respect to input 1"):
        gradcheck(op, (leaf(0.3, 0.8), leaf(0.5, -0.7)))


def test_gradgradcheck_catches_a_derivative_that_cannot_be_differentiated(declare):
    op = declare("square_with_a_constant_derivative", elementwise=True)(lambda x: x**2)
    op.vjp(x=lambda grad, x: mul(grad, mul(2.0, x.detach())))
    assert gradcheck(op, (leaf(0.3, 0.8),))
    with pytest.raises(RuntimeError):
        gradgradcheck(op, (leaf(0.3, 0.8),))


def test_an_op_without_derivative_and_reason_is_refused(declare):
    declare("forgotten")(lambda x: x)
    with pytest.raises(TypeError, match="forgotten has no derivative and gives no reason"):
        dispatch.check_registry()


def test_an_op_with_a_reason_is_accepted(declare):
    declare("step_function", no_gradient="constant almost everywhere")(np.sign)
    dispatch.check_registry()


def test_a_rule_that_asks_for_something_unknown_is_refused_when_declared(declare):
    op = declare("typo")(lambda x, *, dim: x)
    with pytest.raises(TypeError, match="asks for 'dims', which is neither an input nor an attribute"):
        op.vjp(x=lambda grad, dims: grad)


def test_two_ops_of_one_name_are_refused(declare):
    declare("twin")(lambda x: x)
    with pytest.raises(ValueError, match="declared twice"):
        declare("twin")(lambda x: x)


def test_a_missing_rule_for_one_input_is_an_error_when_it_is_needed(declare):
    op = declare("half_differentiable", elementwise=True)(lambda x, y: x * y)
    op.vjp(x=lambda grad, y: mul(grad, y))
    op(leaf(1.0), torch.ones(1, dtype=torch.float64)).backward()
    with pytest.raises((RuntimeError, AttributeError), match=r"not implemented|NoneType"):
        op(leaf(1.0), leaf(2.0)).backward()


# ---- the table over the registry -----------------------------------------------------------------------------------


def test_the_table_wants_samples_and_an_oracle(declare):
    declare("newcomer", no_gradient="none needed")(lambda x, *, dim: x)
    with pytest.raises(AssertionError, match=r"newcomer has no samples"):
        table.test_has_samples_and_an_oracle("newcomer")
    op = declare("newcomer_with_samples", no_gradient="none needed")(lambda x: x)
    op.samples(lambda make: [((make(2),), {})])
    with pytest.raises(AssertionError, match="has no oracle"):
        table.test_has_samples_and_an_oracle("newcomer_with_samples")
    with pytest.raises(AssertionError, match="no sample without elements"):
        table.test_samples_include_an_empty_tensor("newcomer_with_samples")


@pytest.fixture
def broken(declare, monkeypatch):
    """A primitive with the given kernel, in the table with the given oracle."""

    def make(kernel, oracle, **options):
        op = declare("broken", **options)(kernel)
        op.samples(lambda make: [((make(2, 3),), {})])
        monkeypatch.setitem(table.ORACLES, "broken", oracle)
        return op

    return make


def test_the_table_catches_a_wrong_value(broken):
    broken(lambda x: x + 1e-3, lambda x: x, no_gradient="none needed")
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        table.test_value("broken")


def test_the_table_catches_a_wrong_type(broken):
    broken(lambda x: x.astype(np.float32), lambda x: x.astype(np.float32).astype(float), no_gradient="none needed")
    with pytest.raises(AssertionError):
        table.test_value("broken")


def test_the_table_catches_a_changed_input(broken):
    def kernel(x):
        x += 1
        return x.copy()

    broken(kernel, lambda x: x + 1, no_gradient="none needed")
    with pytest.raises(AssertionError, match="changed its input"):
        table.test_value("broken")


def test_the_table_catches_a_kernel_that_reads_memory_in_the_wrong_order(broken):
    broken(lambda x: x.ravel("K").reshape(x.shape), lambda x: x, no_gradient="none needed")
    table.test_value("broken")
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        table.test_strided_inputs("broken")


def test_the_table_catches_double_precision_that_sneaks_in(broken):
    broken(lambda x: x * np.float64(2.0), lambda x: 2 * x, no_gradient="none needed")
    with pytest.raises(AssertionError):
        table.test_float32_stays_float32("broken")


def test_the_table_catches_a_wrong_derivative(broken):
    op = broken(lambda x: x * 2, lambda x: x * 2)
    op.vjp(x=lambda grad: mul(grad, 3.0))
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        table.test_first_derivative("broken")


def test_the_table_catches_a_backend_that_disagrees(broken, monkeypatch):
    op = broken(lambda x: x * 2, lambda x: x * 2, no_gradient="none needed")
    op.op.backends.append((lambda x: True, lambda x: x * 2 + 1))
    with pytest.raises(AssertionError):
        table.test_backends_agree_with_the_op_itself("broken", monkeypatch)
