"""What all optimizers share: groups, state, checkpoints, hooks, errors."""

import copy
import pickle

import pytest

import flambeau as torch
from flambeau import nn, optim
from flambeau.optim import optimizer as base

ALGORITHMS = [
    optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad, optim.Adadelta, optim.RMSprop, optim.Adamax, optim.NAdam,
    optim.RAdam, optim.ASGD, optim.Rprop, optim.Adafactor,
]  # fmt: skip


def weights(*shapes):
    return [nn.Parameter(torch.arange(1.0, torch.zeros(shape).numel() + 1).reshape(shape)) for shape in shapes]


def step(optimizer):
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.ones_like(param) * 0.5
    optimizer.step()


# ---- parameter groups ------------------------------------------------------------------------------


def test_groups_take_defaults_and_keep_their_own_options():
    a, b = weights((2,), (3,))
    optimizer = optim.SGD([{"params": a}, {"params": [b], "lr": 0.5}], lr=0.1, momentum=0.9)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
    assert optimizer.param_groups[0]["params"] == [a]
    assert optimizer.param_groups[1]["momentum"] == 0.9
    (c,) = weights((1,))
    optimizer.add_param_group({"params": c, "lr": 2.0})
    assert len(optimizer.param_groups) == 3


def test_repr_lists_the_options_of_each_group():
    a, b = weights((2,), (2,))
    text = repr(optim.SGD([{"params": [a]}, {"params": [b], "lr": 1}], lr=0.1))
    options = """    dampening: 0
    differentiable: False
    foreach: None
    fused: None
    lr: {}
    maximize: False
    momentum: 0
    nesterov: False
    weight_decay: 0
"""
    assert text == f"SGD (\nParameter Group 0\n{options.format(0.1)}\nParameter Group 1\n{options.format(1)})"


def test_named_parameters():
    model = nn.Linear(2, 3)
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.param_groups[0]["params"] == [model.weight, model.bias]
    with pytest.raises(ValueError, match="Some param names are missing"):
        optim.SGD([("a", model.weight), model.bias], lr=0.1)
    with pytest.raises(ValueError, match="without names to the optimizer"):
        optimizer.add_param_group({"params": weights((1,))})


def test_wrong_parameters():
    (a,) = weights((2,))
    with pytest.raises(TypeError, match="iterable of tensors"):
        optim.SGD(a, lr=0.1)
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.SGD([], lr=0.1)
    with pytest.raises(TypeError, match="ordered collections"):
        optim.SGD([{"params": {a}}], lr=0.1)
    with pytest.raises(TypeError, match="one of the params is str"):
        optim.SGD(["weight"], lr=0.1)
    with pytest.raises(TypeError, match="must be a dict"):
        optim.SGD([a], lr=0.1).add_param_group([a])
    with pytest.raises(ValueError, match="non-leaf"):
        optim.SGD([a * 2], lr=0.1)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optim.SGD([{"params": [a]}, {"params": [a]}], lr=0.1)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([a, a], lr=0.1)


def test_options_out_of_range():
    params = weights((2,))
    for algorithm in ALGORITHMS:
        with pytest.raises(ValueError, match=r"earning rate.*-1"):
            algorithm(params, lr=-1.0)
    with pytest.raises(ValueError, match=r"index 1: 1\.0"):
        optim.Adam(params, betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="Nesterov"):
        optim.SGD(params, lr=0.1, nesterov=True)
    with pytest.raises(ValueError, match="momentum value: -1"):
        optim.SGD(params, lr=0.1, momentum=-1)
    with pytest.raises(ValueError, match="1-element"):
        optim.SGD(params, lr=torch.ones(2))
    with pytest.raises(ValueError, match="2D parameters"):
        optim.Muon(params)
    with pytest.raises(ValueError, match="parameter groups"):
        optim.LBFGS([{"params": weights((1,))}, {"params": weights((1,))}])


@pytest.mark.parametrize("algorithm", [optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad])
def test_implementations_that_exclude_each_other(algorithm):
    with pytest.raises(RuntimeError, match="`fused` and `foreach`"):
        algorithm(weights((1,)), lr=0.1, fused=True, foreach=True)
    with pytest.raises(RuntimeError, match="differentiable"):
        algorithm(weights((1,)), lr=0.1, fused=True, differentiable=True)


def test_capturable_is_refused_at_the_first_step():
    optimizer = optim.Adam(weights((1,)), capturable=True)
    with pytest.raises(AssertionError, match="capturable"):
        step(optimizer)


def test_sparse_adam_refuses_dense_gradients():
    with pytest.raises(RuntimeError, match="dense gradients"):
        step(optim.SparseAdam(weights((2,))))


# ---- steps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_step_descends_and_maximize_ascends(algorithm):
    for maximize, sign in ((False, -1), (True, 1)):
        params = weights((2, 3), ())
        before = [param.detach().clone() for param in params]
        optimizer = algorithm(params, maximize=maximize)
        step(optimizer)
        step(optimizer)
        for param, old in zip(params, before):
            assert ((param - old) * sign > 0).all() and param.is_leaf and param.requires_grad


def test_parameters_without_gradient_are_skipped_and_have_no_state():
    a, b = weights((2,), (2,))
    optimizer = optim.Adam([a, b])
    a.grad = torch.ones(2)
    optimizer.step()
    assert list(optimizer.state) == [a]
    assert b.tolist() == [1.0, 2.0]


def test_the_closure_runs_with_gradients_and_its_loss_is_returned():
    (a,) = weights((2,))
    optimizer = optim.SGD([a], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (a * a).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 5.0
    assert torch.allclose(a, torch.tensor([0.8, 1.6]))
    assert optimizer.step() is None


def test_zero_grad():
    (a,) = weights((2,))
    optimizer = optim.SGD([a], lr=0.1)
    a.grad = torch.ones(2)
    grad = a.grad
    optimizer.zero_grad(set_to_none=False)
    assert a.grad is grad and grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert a.grad is None


def test_steps_are_counted_in_float32():
    (a,) = weights((2,))
    a.data = a.data.double()
    optimizer = optim.Adam([a])
    step(optimizer)
    counter = optimizer.state[a]["step"]
    assert counter.dtype is torch.float32 and counter.shape == () and counter.item() == 1.0
    assert optimizer.state[a]["exp_avg"].dtype is torch.float64


def test_learning_rate_as_a_tensor():
    (a,), (b,) = weights((2,)), weights((2,))
    for algorithm in (optim.SGD, optim.Adam, optim.RMSprop, optim.Rprop):
        with_number, with_tensor = algorithm([a], lr=0.25), algorithm([b], lr=torch.tensor(0.25))
        step(with_number)
        step(with_tensor)
        assert torch.allclose(a, b)


def test_complex_parameters_are_pairs_of_real_ones():
    for algorithm in (optim.SGD, optim.Adam, optim.Adagrad, optim.RMSprop, optim.Rprop):
        whole = nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))
        pairs = nn.Parameter(torch.view_as_real(whole.detach()).clone())
        for param, optimizer in ((whole, algorithm([whole], lr=0.1)), (pairs, algorithm([pairs], lr=0.1))):
            for factor in (1.0, -0.5):
                grad = torch.tensor([[0.5, -1.0], [2.0, 0.25]]) * factor
                param.grad = torch.view_as_complex(grad) if param is whole else grad
                optimizer.step()
        assert torch.allclose(torch.view_as_real(whole.detach()), pairs.detach())


@pytest.mark.parametrize("algorithm", [optim.SGD, optim.Adam])
def test_differentiable_steps_carry_the_gradient_of_the_learning_rate(algorithm):
    def loss_after_two_steps(lr):
        param = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True).clone()
        param.retain_grad()
        optimizer = algorithm([param], lr=lr, differentiable=True)
        for scale in (1.0, 3.0):
            param.grad = torch.tensor([0.3, 0.7], dtype=torch.float64) * scale
            optimizer.step()
        return (param * param).sum()

    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    loss_after_two_steps(lr).backward()
    shift = 1e-6
    slope = (loss_after_two_steps(0.1 + shift) - loss_after_two_steps(0.1 - shift)).item() / (2 * shift)
    assert lr.grad.item() == pytest.approx(slope, rel=1e-6)


def test_users_can_write_their_own():
    class Halving(optim.Optimizer):
        def __init__(self, params, factor=0.5):
            super().__init__(params, {"factor": factor})

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for param in group["params"]:
                    param.mul_(group["factor"])

    (a,) = weights((2,))
    calls = []
    optimizer = Halving([a])
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step()
    assert a.tolist() == [0.5, 1.0] and calls == ["after"]
    with pytest.raises(NotImplementedError):
        optim.Optimizer([a], {}).step()
    with pytest.raises(ValueError, match="required optimization parameter factor"):
        optim.Optimizer([a], {"factor": base.required})


# ---- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_resuming_goes_on_as_if_nothing_had_happened(algorithm):
    params = weights((2, 3), ())
    optimizer = algorithm(params)
    step(optimizer)
    copies = [nn.Parameter(param.detach().clone()) for param in params]
    resumed = algorithm(copies)
    assert resumed.load_state_dict(copy.deepcopy(optimizer.state_dict())) is None
    for _ in range(2):
        step(optimizer)
        step(resumed)
    for param, other in zip(params, copies):
        assert param.tolist() == other.tolist()


def test_state_dict_numbers_the_parameters():
    a, b, c = weights((2,), (2,), (2,))
    optimizer = optim.Adam([{"params": [a, b]}, {"params": [c], "lr": 0.5}])
    step(optimizer)
    saved = optimizer.state_dict()
    assert list(saved) == ["state", "param_groups"]
    assert list(saved["state"]) == [0, 1, 2]
    assert list(saved["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
    assert saved["param_groups"][1]["params"] == [2]
    assert list(saved["param_groups"][0]) == [
        "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach", "capturable", "differentiable", "fused",
        "decoupled_weight_decay", "params",
    ]  # fmt: skip


def test_older_checkpoints_load():
    (a,) = weights((2,))
    old = {
        "state": {0: {"step": 3, "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "params": [0]}],
    }
    optimizer = optim.Adam([a], foreach=True)
    optimizer.load_state_dict(old)
    step(optimizer)
    assert optimizer.state[a]["step"].item() == 4.0
    assert optimizer.param_groups[0]["foreach"] is None and optimizer.param_groups[0]["amsgrad"] is False


def test_loading_casts_state_to_the_parameter():
    (a,) = weights((2,))
    source = optim.Adam([a])
    step(source)
    b = nn.Parameter(a.detach().double())
    target = optim.Adam([b])
    target.load_state_dict(source.state_dict())
    assert target.state[b]["exp_avg"].dtype is torch.float64
    assert target.state[b]["step"].dtype is torch.float32


def test_checkpoints_that_do_not_fit():
    a, b = weights((2,), (2,))
    optimizer = optim.SGD([a, b], lr=0.1)
    with pytest.raises(ValueError, match="number of parameter groups"):
        optimizer.load_state_dict(optim.SGD([{"params": weights((1,))}, {"params": weights((1,))}]).state_dict())
    with pytest.raises(ValueError, match="group 0: 1 parameters saved, 2 in the optimizer"):
        optimizer.load_state_dict(optim.SGD(weights((1,))).state_dict())


def test_adamw_stays_decoupled_with_a_checkpoint_of_adam():
    (a,) = weights((2,))
    optimizer = optim.AdamW([a])
    optimizer.load_state_dict(optim.Adam(weights((2,))).state_dict())
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True


def test_pickle_and_deepcopy():
    params = weights((2,))
    optimizer = optim.Adam(params, lr=0.5)
    step(optimizer)
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        assert repr(other) == repr(optimizer)
        (param,) = other.param_groups[0]["params"]
        assert param is not params[0] and param.tolist() == params[0].tolist()
        step(other)
        assert other.state[param]["step"].item() == 2.0


# ---- hooks -----------------------------------------------------------------------------------------


def test_step_hooks():
    (a,) = weights((2,))
    optimizer, seen = optim.SGD([a], lr=0.1), []
    handles = [
        optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append("before")),
        optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append("after")),
        base.register_optimizer_step_pre_hook(lambda o, args, kwargs: seen.append("before all")),
        base.register_optimizer_step_post_hook(lambda o, args, kwargs: seen.append("after all")),
    ]
    step(optimizer)
    for handle in handles:
        handle.remove()
    step(optimizer)
    assert seen == ["before all", "before", "after", "after all"]
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((*args, lambda: 7), kwargs))
    assert optimizer.step() == 7
    optimizer.register_step_pre_hook(lambda o, args, kwargs: 7)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()


def test_state_dict_hooks():
    (a,) = weights((2,))
    optimizer, seen = optim.SGD([a], lr=0.1), []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append(1))
    optimizer.register_state_dict_pre_hook(lambda o: seen.append(0), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, saved: {**saved, "extra": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, saved: seen.append(saved.pop("extra")))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    saved = optimizer.state_dict()
    assert saved["extra"] == 1
    optimizer.load_state_dict(saved)
    assert seen == [0, 1, 1, "loaded"] and "extra" in saved


# ---- other parameters under the same rule ------------------------------------------------------------


def test_swapping_in_parameters_and_state():
    (a,) = weights((2,))
    optimizer = optim.Adam([a], lr=0.5)
    step(optimizer)
    (b,) = weights((2,))
    other = optim.Adam([b], lr=0.25)
    step(other)
    saved, before = other.state_dict(), a.tolist()
    with optim.swap_in_optimizer_params_and_state(optimizer, {"b": b}, saved):
        assert optimizer.param_groups[0]["params"] == [b] and optimizer.param_groups[0]["lr"] == 0.25
        optimizer.step()
    assert saved["state"][0]["step"].item() == 2.0
    assert a.tolist() == before and optimizer.param_groups[0]["params"] == [a]
    assert optimizer.state[a]["step"].item() == 1.0 and optimizer.param_groups[0]["lr"] == 0.5
    for parameters, state, match in (
        ({}, saved, "more parameters than the 0"),
        ({"b": b}, {"state": {}}, "as `state_dict"),
        ({"b": b}, {**saved, "param_groups": []}, "0 parameter groups"),
        ({"b": b}, {**saved, "state": {7: {}}}, "no parameter"),
    ):
        with (
            pytest.raises(RuntimeError, match=match),
            optim.swap_in_optimizer_params_and_state(optimizer, parameters, state),
        ):
            pass
