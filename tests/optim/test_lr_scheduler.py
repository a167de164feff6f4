"""Schedulers: closed forms, order of steps, checkpoints, errors. The rates are in test_against_pytorch.py."""

import pytest

import flambeau as torch
from flambeau import nn, optim
from flambeau.optim import lr_scheduler as L


def optimizer(**options):
    return optim.SGD([nn.Parameter(torch.ones(2))], **{"lr": 0.1, "momentum": 0.9, **options})


CLOSED_FORMS = {
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "MultiStepLR": {"milestones": [2, 5, 5]},
    "ConstantLR": {"factor": 0.5, "total_iters": 3},
    "LinearLR": {"start_factor": 0.25, "total_iters": 5},
    "ExponentialLR": {"gamma": 0.8},
    "PolynomialLR": {"total_iters": 6, "power": 2.0},
    "CosineAnnealingLR": {"T_max": 9, "eta_min": 0.01},
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_closed_form_agrees_with_the_chain(name):
    make = getattr(L, name)
    opt, jumping = optimizer(), optimizer()
    chain, jump = make(opt, **CLOSED_FORMS[name]), make(jumping, **CLOSED_FORMS[name])
    for epoch in range(1, 8):
        opt.step()
        jumping.step()
        chain.step()
        with pytest.warns(UserWarning, match=r"scheduler.step\(epoch\)"):
            jump.step(epoch)
        assert jump.get_last_lr()[0] == pytest.approx(chain.get_last_lr()[0])


def test_warm_restarts_take_fractions_of_epochs():
    opt = optimizer()
    scheduler = L.CosineAnnealingWarmRestarts(opt, T_0=4, T_mult=2)
    for epoch, position, period in ((0.5, 0.5, 4), (4, 0, 8), (13.5, 1.5, 16)):
        scheduler.step(epoch)
        assert (scheduler.T_cur, scheduler.T_i) == (position, period)
    with pytest.raises(ValueError, match="non-negative"):
        scheduler.step(-1)


def test_the_optimizer_steps_first():
    opt = optimizer()
    scheduler = L.StepLR(opt, 2)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    opt = optimizer()
    scheduler = L.StepLR(opt, 2)
    opt.step = lambda: None
    with pytest.warns(UserWarning, match="overridden"):
        scheduler.step()


def test_get_lr_outside_of_a_step_warns():
    scheduler = L.StepLR(optimizer(), 2)
    with pytest.warns(UserWarning, match="get_last_lr"):
        scheduler.get_lr()


def test_a_learning_rate_that_is_a_tensor_is_written_to():
    rate = torch.tensor(0.5)
    opt = optimizer(lr=rate)
    scheduler = L.ExponentialLR(opt, 0.5)
    opt.step()
    scheduler.step()
    assert opt.param_groups[0]["lr"] is rate and rate.item() == 0.25
    scheduler.get_last_lr()[0].fill_(9.0)
    assert rate.item() == 0.25


def test_resuming_needs_the_initial_rate():
    with pytest.raises(KeyError, match=r"initial_lr.*param_groups\[0\]"):
        L.StepLR(optimizer(), 2, last_epoch=3)
    opt = optimizer()
    opt.param_groups[0]["initial_lr"] = 0.4
    assert L.LambdaLR(opt, lambda epoch: 1 / epoch, last_epoch=3).get_last_lr() == [0.1]


def test_state_dict_has_no_functions():
    class Decay:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, epoch):
            return self.factor**epoch

    opt = optim.SGD([{"params": [nn.Parameter(torch.ones(1))]}, {"params": [nn.Parameter(torch.ones(1))]}], lr=1.0)
    scheduler = L.LambdaLR(opt, [Decay(0.5), lambda epoch: 1.0])
    saved = scheduler.state_dict()
    assert saved["lr_lambdas"] == [{"factor": 0.5}, None]
    other = L.LambdaLR(opt, [Decay(0.1), lambda epoch: 1.0])
    other.load_state_dict(saved)
    assert other.lr_lambdas[0].factor == 0.5 and "lr_lambdas" in saved


def test_cyclic_lr_with_a_scale_function():
    class Scale:
        height = 0.5

        def __call__(self, x):
            return self.height

    scheduler = L.CyclicLR(optimizer(), 0.1, 0.3, step_size_up=2, scale_fn=Scale())
    scheduler.optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr()[0] == pytest.approx(0.15)
    saved = scheduler.state_dict()
    assert saved["_scale_fn_custom"] == {}
    scheduler.load_state_dict({**saved, "_scale_fn_custom": {"height": 1.0}})
    assert scheduler.scale_fn(1) == 1.0


def test_momentum_cycles_against_the_rate():
    opt = optimizer()
    scheduler = L.OneCycleLR(opt, max_lr=1.0, total_steps=10, pct_start=0.5, anneal_strategy="linear")
    seen = []
    for _ in range(9):
        seen.append((opt.param_groups[0]["lr"], opt.param_groups[0]["momentum"]))
        opt.step()
        scheduler.step()
    highest = max(seen)
    assert highest == (pytest.approx(1.0), pytest.approx(0.85)) and seen[0][1] == pytest.approx(0.95)
    adam = optim.Adam([nn.Parameter(torch.ones(1))], betas=(0.5, 0.99))
    L.CyclicLR(adam, 0.1, 0.3)
    assert adam.param_groups[0]["betas"] == (0.9, 0.99)


def test_too_many_steps_of_one_cycle():
    opt = optimizer()
    scheduler = L.OneCycleLR(opt, max_lr=1.0, total_steps=2)
    opt.step()
    scheduler.step()
    scheduler.step()
    with pytest.raises(ValueError, match="Tried to step 3 times"):
        scheduler.step()


def test_plateau_adapts_to_a_new_group():
    opt = optimizer()
    scheduler = L.ReduceLROnPlateau(opt, patience=0, factor=0.5)
    opt.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.2})
    scheduler.step(torch.tensor(1.0))
    scheduler.step(1.0)
    assert scheduler.get_last_lr() == [0.05, 0.1]
    strict = L.ReduceLROnPlateau(opt, patience=0, min_lr=[0.0, 0.0])
    opt.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    strict.step(1.0)
    with pytest.raises(RuntimeError, match="3 param groups"):
        strict.step(1.0)


def test_sequential_begins_with_its_first_part():
    opt = optimizer(lr=1.0)
    parts = [L.ConstantLR(opt, 0.1, 2), L.ExponentialLR(opt, 0.5)]
    scheduler = L.SequentialLR(opt, parts, milestones=[2])
    assert scheduler.get_last_lr() == [0.1]
    saved = scheduler.state_dict()
    assert [part["last_epoch"] for part in saved["_schedulers"]] == [0, -1]
    assert "optimizer" not in saved["_schedulers"][0]


def test_parts_that_do_not_fit():
    opt, other = optimizer(), optimizer()
    with pytest.raises(ValueError, match="at least one"):
        L.SequentialLR(opt, [], [])
    with pytest.raises(ValueError, match="same optimizer"):
        L.SequentialLR(opt, [L.StepLR(other, 2)], [])
    with pytest.raises(ValueError, match="2 schedulers and 0 milestones"):
        L.SequentialLR(opt, [L.StepLR(opt, 2), L.StepLR(opt, 3)], [])
    with pytest.raises(ValueError, match="ReduceLROnPlateau"):
        L.ChainedScheduler([L.ReduceLROnPlateau(opt)])


def test_wrong_options():
    opt = optimizer()
    for make, match in (
        (lambda: L.StepLR([], 2), None),
        (lambda: L.LambdaLR(opt, [len, len]), "Expected 1 lr_lambdas"),
        (lambda: L.MultiplicativeLR(opt, 3), "should be a function"),
        (lambda: L.ConstantLR(opt, factor=2), "between 0 and 1"),
        (lambda: L.LinearLR(opt, start_factor=0), "greater|> 0"),
        (lambda: L.ReduceLROnPlateau(opt, factor=1.0), "< 1.0"),
        (lambda: L.ReduceLROnPlateau(opt, mode="up"), "mode up"),
        (lambda: L.CyclicLR(opt, 0.1, 0.2, mode="square"), "mode"),
        (lambda: L.CyclicLR(opt, [0.1, 0.1], 0.2), "2 values, param_groups has 1"),
        (lambda: L.CyclicLR(optim.Adagrad([nn.Parameter(torch.ones(1))]), 0.1, 0.2), "momentum or beta1"),
        (lambda: L.CosineAnnealingWarmRestarts(opt, T_0=0), "positive integer T_0"),
        (lambda: L.OneCycleLR(opt, max_lr=1.0), "total_steps OR"),
        (lambda: L.OneCycleLR(opt, max_lr=1.0, total_steps=-1), "positive integer total_steps"),
        (lambda: L.OneCycleLR(opt, max_lr=1.0, total_steps=5, pct_start=2.0), "pct_start"),
        (lambda: L.OneCycleLR(opt, max_lr=1.0, total_steps=5, anneal_strategy="up"), "anneal_strategy"),
        (lambda: optim.swa_utils.SWALR(opt, 0.1, anneal_strategy="up"), "anneal_strategy"),
        (lambda: optim.swa_utils.SWALR(opt, 0.1, anneal_epochs=-1), "anneal_epochs"),
    ):
        with pytest.raises((ValueError, TypeError), match=match):
            make()


def test_older_name_of_the_base_class():
    class Mine(L._LRScheduler):
        def get_lr(self):
            return [0.5 for _ in self.base_lrs]

    assert isinstance(Mine(optimizer()), L.LRScheduler)
