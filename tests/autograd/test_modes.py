"""Switching history on and off, inference mode, anomaly mode."""

import pytest

import flambeau as torch


def leaf(*values):
    return torch.tensor(values, requires_grad=True)


def recorded():
    return (leaf(1.0) * 2).requires_grad


def test_no_grad_and_enable_grad_nest():
    with torch.no_grad():
        assert not recorded()
        with torch.enable_grad():
            assert recorded()
        assert not recorded()
    assert recorded()


def test_the_mode_returns_after_an_exception():
    with pytest.raises(ValueError), torch.no_grad():
        raise ValueError
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("decorator", [torch.no_grad(), torch.no_grad, torch.inference_mode(), torch.inference_mode])
def test_as_decorator(decorator):
    @decorator
    def run(x, *, scale):
        """Doubles."""
        return x * scale

    assert run.__name__ == "run" and run.__doc__ == "Doubles."
    assert not run(leaf(1.0), scale=2).requires_grad
    assert recorded()


def test_decorated_functions_recurse():
    @torch.no_grad()
    def depth(n):
        return torch.is_grad_enabled() if n == 0 else depth(n - 1)

    assert depth(3) is False and torch.is_grad_enabled()


def test_decorated_generators_switch_only_while_they_run():
    seen = []

    @torch.no_grad()
    def numbers():
        seen.append(torch.is_grad_enabled())
        sent = yield 1
        seen.append(torch.is_grad_enabled())
        try:
            yield sent
        except KeyError:
            seen.append("caught")
            yield 3
        return 4

    generator = numbers()
    assert next(generator) == 1 and torch.is_grad_enabled()
    assert generator.send(2) == 2 and torch.is_grad_enabled()
    assert generator.throw(KeyError()) == 3
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == 4 and seen == [False, False, "caught"]


def test_set_grad_enabled_as_function_and_context():
    torch.set_grad_enabled(False)
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    with torch.set_grad_enabled(False):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()

    @torch.set_grad_enabled(False)
    def run():
        return torch.is_grad_enabled()

    assert torch.is_grad_enabled() and run() is False and torch.is_grad_enabled()


def test_factory_calls_under_no_grad_may_still_require_grad():
    with torch.no_grad():
        x = torch.ones(2, requires_grad=True)
        assert x.requires_grad and not (x * 2).requires_grad


def test_in_place_on_a_leaf_is_allowed_under_no_grad():
    w = leaf(1.0, 2.0)
    with torch.no_grad():
        w -= 0.5
        w[0] = 7.0
    assert w.tolist() == [7.0, 1.5] and w.requires_grad and w.is_leaf


def test_inference_mode():
    x = leaf(1.0)
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
        y = x * 2
        with torch.inference_mode(False):
            assert not torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    assert not y.requires_grad


# ---- anomaly mode -----------------------------------------------------------------------------------------------


def forward_line(x):
    return torch.sqrt(x)  # THE LINE


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_anomaly_mode_names_the_forward_line_of_a_nan():
    x = leaf(0.0)
    with torch.autograd.detect_anomaly():
        assert torch.is_anomaly_enabled()
        y = forward_line(x) * 0.0
        with (
            pytest.raises(RuntimeError, match=r"Function 'SqrtBackward0' returned nan values in its 0th output"),
            pytest.warns(UserWarning, match=r"(?s)Error detected in SqrtBackward0.*THE LINE"),
        ):
            y.backward()
    assert not torch.is_anomaly_enabled()


def test_set_detect_anomaly_without_nan_check():
    x = leaf(0.0)
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        (torch.sqrt(x) * 0.0).backward()
    assert torch.isnan(x.grad).all()


def test_nan_passes_without_anomaly_mode():
    x = leaf(0.0)
    (torch.sqrt(x) * 0.0).backward()
    assert torch.isnan(x.grad).all()
