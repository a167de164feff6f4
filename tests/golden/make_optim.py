"""Record how PyTorch trains: `python tests/golden/make_optim.py` writes optim.json next to this file. Needs PyTorch.

OPTIMIZERS: constructor calls in T and `params`; stored are the parameters after STEPS steps on fixed gradients.
SCHEDULES: constructor calls in T and `opt`; stored are the learning rates of the two groups over 20 epochs.
`train` and `schedule` are what both this script and the tests run.
"""

import json
import warnings
from pathlib import Path

STEPS = 6
SHAPES = [(2, 3), (3,), ()]
OPTIMIZERS = [
    "SGD(params, lr=0.1)",
    "SGD(params, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01)",
    "SGD(params, lr=0.1, momentum=0.9, nesterov=True, maximize=True)",
    "Adam(params, lr=0.1)",
    "Adam(params, lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1, amsgrad=True)",
    "AdamW(params, lr=0.1, maximize=True)",
    "Adagrad(params, lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.2)",
    "Adadelta(params, lr=0.5, rho=0.8, weight_decay=0.1)",
    "RMSprop(params, lr=0.1)",
    "RMSprop(params, lr=0.1, alpha=0.8, momentum=0.9, centered=True, weight_decay=0.1)",
    "Adamax(params, lr=0.1, weight_decay=0.1)",
    "NAdam(params, lr=0.1, weight_decay=0.1)",
    "NAdam(params, lr=0.1, weight_decay=0.1, decoupled_weight_decay=True)",
    "RAdam(params, lr=0.1, betas=(0.8, 0.7), weight_decay=0.1)",
    "RAdam(params, lr=0.1, weight_decay=0.1, decoupled_weight_decay=True)",
    "ASGD(params, lr=0.1, t0=2, weight_decay=0.1)",
    "Rprop(params, lr=0.1)",
    "Adafactor(params, lr=0.1, weight_decay=0.1)",
    "Muon(params[:1], lr=0.1)",
    "Muon(params[:1], lr=0.1, nesterov=False, adjust_lr_fn='match_rms_adamw')",
    "LBFGS(params, lr=0.1, max_iter=3)",
    "LBFGS(params, max_iter=4, line_search_fn='strong_wolfe')",
]
SCHEDULES = [
    "LambdaLR(opt, lambda epoch: 0.95**epoch)",
    "MultiplicativeLR(opt, lambda epoch: 0.9 if epoch % 2 else 1.0)",
    "StepLR(opt, step_size=3, gamma=0.5)",
    "MultiStepLR(opt, milestones=[2, 5, 5, 9], gamma=0.3)",
    "ConstantLR(opt, factor=0.5, total_iters=4)",
    "LinearLR(opt, start_factor=0.3, end_factor=0.9, total_iters=7)",
    "ExponentialLR(opt, gamma=0.8)",
    "PolynomialLR(opt, total_iters=8, power=2.0)",
    "CosineAnnealingLR(opt, T_max=8, eta_min=0.001)",
    "CosineAnnealingWarmRestarts(opt, T_0=4, T_mult=2, eta_min=0.01)",
    "CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=3, step_size_down=4, mode='triangular2')",
    "CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=3, mode='exp_range', gamma=0.9)",
    "OneCycleLR(opt, max_lr=0.2, total_steps=21)",
    "OneCycleLR(opt, max_lr=[0.2, 0.4], epochs=3, steps_per_epoch=7, anneal_strategy='linear', three_phase=True)",
    "ReduceLROnPlateau(opt, factor=0.5, patience=2)",
    "ReduceLROnPlateau(opt, mode='max', patience=1, threshold=0.01, threshold_mode='abs', cooldown=2, min_lr=1e-4)",
    "SequentialLR(opt, [L.ConstantLR(opt, 0.1, 4), L.ExponentialLR(opt, 0.9), L.CosineAnnealingLR(opt, 6)], [4, 11])",
    "ChainedScheduler([L.LinearLR(opt, 0.2, total_iters=6), L.StepLR(opt, step_size=4, gamma=0.5)])",
    "SWALR(opt, swa_lr=0.02, anneal_epochs=5)",
    "SWALR(opt, swa_lr=0.02, anneal_epochs=5, anneal_strategy='linear')",
]
CURVE = [1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.65, 0.66, 0.66, 0.66, 0.66, 0.5, 0.5, 0.5, 0.5, 0.5, 0.49, 0.49, 0.49, 0.49]


def number(i):
    """A fixed number in [-1, 1) for each i."""
    return (i * 7919 % 1000) / 500 - 1


def filled(T, shape, start):
    """A float64 tensor of fixed numbers."""
    count = T.zeros(shape).numel()
    return T.tensor([number(start + i) for i in range(count)], dtype=T.float64).reshape(shape)


def parameters(T):
    """The parameters that training starts from."""
    return [T.nn.Parameter(filled(T, shape, 10 * i)) for i, shape in enumerate(SHAPES)]


def train(T, call, steps=STEPS):
    """The parameters, as nested lists, after some steps; the second one gets no gradient in the third step."""
    params = parameters(T)
    optimizer = eval(f"T.optim.{call}", {"T": T, "params": params})

    def closure():
        optimizer.zero_grad()
        loss = sum(((p - 0.5) ** 4 + (p - 0.5) ** 2).sum() for p in params)
        loss.backward()
        return loss

    for step in range(steps):
        if "LBFGS" in call:
            optimizer.step(closure)
            continue
        for i, param in enumerate(params):
            param.grad = None if (step, i) == (2, 1) else filled(T, SHAPES[i], 100 * step + 31 * i)
        optimizer.step()
    return [param.tolist() for param in params]


def schedule(T, call, epochs=20):
    """The learning rates of both groups in each epoch."""
    weights = [T.nn.Parameter(T.ones(2)) for _ in range(2)]
    opt = T.optim.SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.05}], lr=0.1, momentum=0.9)
    home = T.optim.swa_utils if call.startswith("SWALR") else T.optim.lr_scheduler
    scheduler = eval(f"home.{call}", {"home": home, "L": T.optim.lr_scheduler, "opt": opt})
    seen = []
    for epoch in range(epochs):
        seen.append([group["lr"] for group in opt.param_groups])
        opt.step()
        scheduler.step(CURVE[epoch]) if "Plateau" in call else scheduler.step()
    return seen


def main():
    """Write what PyTorch does."""
    import torch

    warnings.simplefilter("ignore")
    recorded = {
        "optimizers": {call: train(torch, call) for call in OPTIMIZERS},
        "schedules": {call: schedule(torch, call) for call in SCHEDULES},
    }
    path = Path(__file__).with_name("optim.json")
    path.write_text(json.dumps(recorded, indent=0).replace("\n", "").replace('],"', '],\n"') + "\n")


if __name__ == "__main__":
    main()
