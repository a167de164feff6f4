"""Whole training steps: compiled and eager runs from one seed agree in losses, parameters, gradients and state."""

import copy

import pytest

import flambeau as torch
from flambeau import nn, optim
from tests.compiler.comparing import assert_native, assert_same, compiled_of, entries, state_of

F = nn.functional

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "dampening": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, maximize=True),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "adamax": lambda p: optim.Adamax(p, lr=0.01),
    "adadelta": lambda p: optim.Adadelta(p, lr=0.5),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.05, lr_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "rprop": lambda p: optim.Rprop(p, lr=0.01),
    "asgd": lambda p: optim.ASGD(p, lr=0.01),
    "nadam": lambda p: optim.NAdam(p, lr=0.01),
    "radam": lambda p: optim.RAdam(p, lr=0.01),
    "adafactor": lambda p: optim.Adafactor(p, lr=0.01),
    "adafactor clipped": lambda p: optim.Adafactor(p, lr=0.9, weight_decay=0.1, eps=(1e-20, 1e-3), d=2.0),
    "muon": lambda p: optim.Muon([q for q in p if q.dim() == 2], lr=0.01),
}
SCHEDULERS = {
    "step": lambda o: optim.lr_scheduler.StepLR(o, 2, gamma=0.5),
    "multistep": lambda o: optim.lr_scheduler.MultiStepLR(o, [2, 4], gamma=0.5),
    "exponential": lambda o: optim.lr_scheduler.ExponentialLR(o, 0.9),
    "cosine": lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 5),
    "restarts": lambda o: optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "lambda": lambda o: optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.95**epoch),
    "onecycle": lambda o: optim.lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=10),
    "cyclic": lambda o: optim.lr_scheduler.CyclicLR(o, base_lr=0.01, max_lr=0.1, step_size_up=3),
    "linear": lambda o: optim.lr_scheduler.LinearLR(o, total_iters=4),
    "polynomial": lambda o: optim.lr_scheduler.PolynomialLR(o, total_iters=6),
}


def network():
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))


class Run:
    """A model with its optimizer and step; eager, or compiled."""

    def __init__(self, compiled, make_optimizer=OPTIMIZERS["momentum"], make_model=network, step=None):
        torch.manual_seed(7)
        self.model = make_model()
        self.optimizer = make_optimizer(self.model.parameters())
        model, optimizer = self.model, self.optimizer

        def plain(x, y):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        made = plain if step is None else step(model, optimizer)
        self.step = torch.compile(made) if compiled else made

    def state(self):
        return state_of(self.model, self.optimizer)


def batches(count, size=4, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return [(torch.randn(size, 5, generator=stream), torch.randn(size, 2, generator=stream)) for _ in range(count)]


def compare(between=None, count=6, tolerance=1e-5, data=None, **options):
    """Train eagerly and compiled; `between(run, number)` is called before each step. Returns the compiled run."""
    eager, compiled = Run(False, **options), Run(True, **options)
    for number, batch in enumerate(data or batches(count)):
        results = []
        for run in (eager, compiled):
            if between is not None:
                between(run, number)
            torch.manual_seed(number)
            results.append((run.step(*batch), run.state()))
        assert_same(results[1], results[0], tolerance)
    return compiled


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    run = compare(make_optimizer=OPTIMIZERS[name])
    assert_native(run.step, None)
    assert compiled_of(run.step).captures <= 3  # the first calls make the state


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler(name):
    schedulers = {}

    def between(run, number):
        if number == 0:
            schedulers[id(run)] = SCHEDULERS[name](run.optimizer)
        else:
            schedulers[id(run)].step()

    run = compare(between, 7)
    assert_native(run.step, None)
    assert compiled_of(run.step).captures <= 3


def test_plateau_scheduler():
    schedulers = {}

    def between(run, number):
        if number == 0:
            schedulers[id(run)] = optim.lr_scheduler.ReduceLROnPlateau(run.optimizer, patience=0)
        else:
            schedulers[id(run)].step(1.0)

    assert_native(compare(between, 6).step, None)


def test_hyperparameters_set_by_hand():
    def between(run, number):
        group = run.optimizer.param_groups[0]
        group["lr"] = 0.1 / (number + 1)
        group["momentum"] = 0.9 - 0.1 * number
        group["weight_decay"] = 0.01 * number

    run = compare(between)
    assert_native(run.step, None)
    assert len(entries(run.step)) <= 3


def test_betas_set_by_hand():
    def between(run, number):
        run.optimizer.param_groups[0]["betas"] = (0.9 - 0.1 * number, 0.99)

    assert_native(compare(between, make_optimizer=OPTIMIZERS["adam"]).step, None)


def test_learning_rate_as_tensor():
    compare(make_optimizer=lambda p: optim.SGD(p, lr=torch.tensor(0.1)))


def test_several_parameter_groups():
    def make(parameters):
        first, *rest = list(parameters)
        return optim.Adam([{"params": [first], "lr": 0.1}, {"params": rest}], lr=0.01)

    def between(run, number):
        run.optimizer.param_groups[number % 2]["lr"] *= 0.5

    assert_native(compare(between, make_optimizer=make).step, None)


@pytest.mark.parametrize("clip", ["norm", "inf", "value"])
def test_clipped_gradients(clip):
    def step(model, optimizer):
        def run(x, y):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y) * 10
            loss.backward()
            norm = loss
            if clip == "value":
                nn.utils.clip_grad_value_(model.parameters(), 0.1)
            else:
                norm = nn.utils.clip_grad_norm_(
                    model.parameters(), 0.5, norm_type=float(clip) if clip == "inf" else 2.0
                )
            optimizer.step()
            return loss, norm

        return run

    assert_native(compare(step=step).step, None)


def test_gradients_accumulate_over_calls():
    def step(model, optimizer):
        def run(x, y):
            loss = F.mse_loss(model(x), y)
            loss.backward()
            return loss.detach()

        return run

    def between(run, number):
        if number and number % 2 == 0:
            run.optimizer.step()
            run.optimizer.zero_grad()

    assert_native(compare(between, 8, step=step).step, None)


def test_gradients_set_to_zero():
    def step(model, optimizer):
        def run(x, y):
            optimizer.zero_grad(set_to_none=False)
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return run

    assert_native(compare(step=step).step, None)


def test_several_backwards_in_one_step():
    def step(model, optimizer):
        def run(x, y):
            optimizer.zero_grad()
            for part, target in zip(x.chunk(2), y.chunk(2)):
                (F.mse_loss(model(part), target) / 2).backward()
            optimizer.step()
            return model(x)

        return run

    assert_native(compare(step=step).step, None)


def test_gradients_that_the_user_keeps_stay_as_they_are():
    run = Run(True)
    kept, copies = [], []
    for batch in batches(6):
        run.step(*batch)
        for p in run.model.parameters():
            kept.append(p.grad)
            copies.append(p.grad.clone())
    assert_native(run.step, None)
    assert_same(kept, copies)
    views = []
    for batch in batches(4, seed=1):
        run.step(*batch)
        g = next(run.model.parameters()).grad
        views.append((g[0], g[0].clone(), g.detach(), g.clone(), torch.from_numpy(g.numpy()), g.clone()))
    for one, copied, two, copied2, three, copied3 in views:
        assert_same([one, two, three], [copied, copied2, copied3])


def test_histories_that_were_walked_keep_their_names():
    def step(model, optimizer):
        def run(x, y):
            optimizer.zero_grad()
            out = model(x)
            loss = F.mse_loss(out, y)
            loss.backward()
            return loss, out, loss * 2

        return run

    run = Run(True, step=step)
    for batch in batches(4):
        found = run.step(*batch)
        assert [t.grad_fn.name() for t in found] == ["MseLossBackward0", "AddmmBackward0", "MulBackward0"]
        with pytest.raises(RuntimeError, match="second time"):
            found[0].backward()
    assert_native(run.step, None)


def test_a_leaf_made_inside_is_a_leaf():
    made = torch.compile(lambda x: (torch.zeros(2, requires_grad=True), x + 1))
    for _ in range(3):
        leaf, _ = made(torch.ones(2))
        assert leaf.is_leaf and leaf.grad_fn is None and leaf.requires_grad


def test_losses_that_the_user_keeps_stay_as_they_are():
    run = Run(True)
    kept = [(loss, loss.item()) for loss in (run.step(*batch) for batch in batches(6))]
    assert all(loss.item() == value for loss, value in kept)


def test_states_loaded_between_calls():
    saved = {}

    def between(run, number):
        if number == 3:
            saved[id(run)] = copy.deepcopy((run.model.state_dict(), run.optimizer.state_dict()))
        if number == 6:
            model, optimizer = saved[id(run)]
            run.model.load_state_dict(model)
            run.optimizer.load_state_dict(optimizer)

    compare(between, 9)
    compare(between, 9, make_optimizer=OPTIMIZERS["adam"])


def test_state_assigned_between_calls():
    def between(run, number):
        if number == 3:
            run.model.load_state_dict({k: v * 2 for k, v in run.model.state_dict().items()}, assign=True)
            run.optimizer.param_groups[0]["params"] = list(run.model.parameters())
        if number == 5:
            for p in run.model.parameters():
                p.data = p.data + 1

    compare(between, 8, make_optimizer=OPTIMIZERS["sgd"])


def test_parameters_written_between_calls():
    def between(run, number):
        if number:
            with torch.no_grad():
                for p in run.model.parameters():
                    p.mul_(0.5)
            run.model[0].weight.data.add_(0.1)

    assert_native(compare(between).step, None)


def test_frozen_and_unfrozen():
    def between(run, number):
        for p in run.model[0].parameters():
            p.requires_grad_(number not in (2, 3))

    assert_native(compare(between, 8).step, None)


def test_training_and_evaluation_modes():
    def make():
        return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 2))

    def between(run, number):
        run.model.train(number % 3 != 2)

    run = compare(between, 12, make_model=make, tolerance=2e-5)
    assert_native(run.step, None)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_statistics(momentum):
    def make():
        return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6, momentum=momentum), nn.Linear(6, 2))

    compare(None, 6, make_model=make, tolerance=2e-5)


def test_other_batch_sizes():
    data = [batch for size in (4, 3, 1, 4, 3, 2, 4) for batch in batches(1, size, size)]
    run = compare(data=data)
    assert_native(run.step, None)


def test_parameters_added_between_calls():
    def between(run, number):
        if number == 3:
            extra = nn.Linear(2, 2)
            torch.nn.init.eye_(extra.weight)
            torch.nn.init.zeros_(extra.bias)
            run.model.append(extra)
            run.optimizer.add_param_group({"params": list(extra.parameters())})

    compare(between, 7)


def test_step_with_two_models():
    """A generator and a discriminator with an optimizer each, as in a GAN."""

    def build(compiled):
        torch.manual_seed(3)
        g, d = nn.Linear(3, 5), nn.Sequential(nn.Linear(5, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))
        og, od = optim.Adam(g.parameters(), 0.01), optim.Adam(d.parameters(), 0.01)

        def step(real):
            noise = torch.randn(4, 3)
            od.zero_grad()
            fake = g(noise)
            one, zero = torch.ones(4, 1), torch.zeros(4, 1)
            loss_d = F.binary_cross_entropy(torch.sigmoid(d(real)), one) + F.binary_cross_entropy(
                torch.sigmoid(d(fake.detach())), zero
            )
            loss_d.backward()
            od.step()
            og.zero_grad()
            loss_g = F.binary_cross_entropy_with_logits(d(fake), one)
            loss_g.backward()
            og.step()
            return loss_d, loss_g

        return torch.compile(step) if compiled else step, (g, d)

    (eager, one), (fast, other) = build(False), build(True)
    for number in range(6):
        real = torch.randn(4, 5, generator=torch.Generator().manual_seed(number))
        results = []
        for step, models in ((eager, one), (fast, other)):
            torch.manual_seed(number)
            results.append((step(real), [state_of(m) for m in models], torch.rand(2)))
        assert_same(results[1], results[0])
    assert_native(fast, None)


def test_no_memory_is_lost():
    import gc

    run = Run(True)
    batch = batches(1)[0]
    for _ in range(10):
        run.step(*batch)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1000):
        run.step(*batch)
    gc.collect()
    assert len(gc.get_objects()) - before < 50


@pytest.mark.parametrize("size", [1, 3])
def test_a_scheduler_that_steps_inside(size):
    def step(model, optimizer):
        scheduler = optim.lr_scheduler.StepLR(optimizer, size, gamma=0.5)

        def run(x, y):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            return loss

        return run

    with pytest.warns(UserWarning, match="it changes"):
        compare(step=step)


def test_the_short_way_sees_what_becomes_of_many_parameters():
    """So many that they are compared in a loop."""

    def run(compile):
        torch.manual_seed(0)
        net = nn.Sequential(*[nn.Linear(3, 3) for _ in range(12)])
        optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        def step(x):
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        work = compile(step)
        losses = [work(torch.ones(2, 3)) for _ in range(4)]
        short = compiled_of(work).short if compile is torch.compile else None
        versions = [p._version for p in net.parameters()]
        net[5].weight.data = torch.eye(3)
        losses += [work(torch.ones(2, 3)) for _ in range(2)]
        net[7].bias.requires_grad_(False)
        losses += [work(torch.ones(2, 3)) for _ in range(2)]
        return short, versions, losses, [p.detach().clone() for p in net.parameters()]

    short, *found = run(torch.compile)
    _, *expected = run(lambda step: step)
    assert short and found[0] == expected[0]
    assert_same(found[1:], expected[1:])


@pytest.mark.parametrize(("name", "calls"), [("sgd", 1), ("momentum", 2), ("adam", 2)])
def test_the_call_that_makes_an_optimizers_state_is_no_record(name, calls):
    net = nn.Linear(2, 1)
    optimizer = OPTIMIZERS[name](net.parameters())

    def step(x):
        optimizer.zero_grad()
        loss = net(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    compiled = torch.compile(step)
    for number in range(1, 4):
        compiled(torch.ones(3, 2))
        assert len(entries(compiled)) == (number >= calls)
    assert_native(compiled, calls)
