"""Steps with a GradScaler: scale, unscale, clip, step and update in one program, for good gradients and bad ones."""

import math

import pytest

import flambeau as torch
from flambeau import nn
from tests.compiler.comparing import assert_native, assert_same, compiled_of, entries
from tests.compiler.test_compile_training import OPTIMIZERS, Run, batches

F = nn.functional


def pair(name, step, **options):
    """An eager and a compiled run, each with its scaler."""
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3, **options) for _ in range(2)]
    runs = [Run(compiled, OPTIMIZERS[name], step=step(scaler)) for compiled, scaler in zip((False, True), scalers)]
    return runs, scalers


def train(runs, scalers, count=12, bad=()):
    """Train both; batch number i holds an infinity or nan if it is among the bad ones."""
    for number, (x, y) in enumerate(batches(count)):
        if number in bad:
            x[1, 2] = math.inf if number % 2 else math.nan
        found = [(run.step(x, y), run.state(), scaler.state_dict()) for run, scaler in zip(runs, scalers)]
        assert_same(found[1], found[0])


def whole(scaler, dtype=None, clip=False):
    """A step of everything."""

    def make(model, optimizer):
        def run(x, y):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                loss = F.mse_loss(model(x).float(), y)
            scaler.scale(loss).backward()
            if clip:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            return loss

        return run

    return make


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "radam", "asgd", "adafactor"])
def test_steps_with_infinities_are_taken_back(name):
    runs, scalers = pair(name, whole)
    train(runs, scalers, bad=(4, 5, 9))
    assert_native(runs[1].step, None)
    assert compiled_of(runs[1].step).captures <= 3
    assert scalers[1].get_scale() == 2.0**9  # grown in steps 3 and 9, shrunk in 5, 6 and 10


def test_gradients_are_clipped_in_between():
    runs, scalers = pair("adam", lambda scaler: whole(scaler, clip=True))
    train(runs, scalers, bad=(3, 7))
    assert_native(runs[1].step, None)
    assert not any(entry.execute.hosts for entry in entries(runs[1].step))


def test_under_autocast():
    runs, scalers = pair("sgd", lambda scaler: whole(scaler, torch.bfloat16))
    train(runs, scalers, 5, bad=(2,))
    assert_native(runs[1].step, None)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_bad_gradients_from_the_first_step_on(name):
    """The optimizer's state is made by the first good step, whenever that is."""
    runs, scalers = pair(name, whole)
    train(runs, scalers, bad=(0, 1, 2, 3, 8))
    assert_native(runs[1].step, None)


def test_factors_set_between_calls():
    runs, scalers = pair("sgd", whole)
    train(runs, scalers, 4)
    for scaler in scalers:
        scaler.set_growth_factor(4.0)
        scaler.set_backoff_factor(0.25)
        scaler.set_growth_interval(2)
    train(runs, scalers, 6, bad=(3,))
    for scaler in scalers:
        scaler.load_state_dict({**scaler.state_dict(), "scale": 64.0, "_growth_tracker": 1})
    train(runs, scalers, 3)
    assert_native(runs[1].step, None)


def test_two_optimizers():
    def step(scaler):
        def make(model, optimizer):
            second = torch.optim.SGD(model[2].parameters(), lr=0.1)

            def run(x, y):
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), y)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.step(second)
                scaler.update()
                return loss

            return run

        return make

    runs, scalers = pair("sgd", step)
    train(runs, scalers, 6, bad=(3,))
    assert_native(runs[1].step, None)


def test_a_compiled_forward_with_the_scaler_outside():
    runs, scalers = pair("adam", lambda scaler: lambda model, optimizer: lambda x, y: F.mse_loss(model(x), y) * 1)
    for number, (x, y) in enumerate(batches(8)):
        x[0, 0] = math.inf if number == 5 else x[0, 0]
        found = []
        for run, scaler in zip(runs, scalers):
            run.optimizer.zero_grad()
            loss = run.step(x, y)
            scaler.scale(loss).backward()
            scaler.step(run.optimizer)
            scaler.update()
            found.append((loss, run.state(), scaler.state_dict()))
        assert_same(found[1], found[0])
    assert_native(runs[1].step)


def test_a_step_that_asks_for_the_scale_names_the_line():
    scaler = torch.amp.GradScaler("cpu")
    weight = torch.ones(2, requires_grad=True)

    def step():
        return scaler.scale(weight).sum() + scaler.get_scale()

    step()
    with pytest.warns(UserWarning, match=r"reads the values of a tensor \(.*test_compile_scaler.py:\d+\)"):
        torch.compile(step)()
