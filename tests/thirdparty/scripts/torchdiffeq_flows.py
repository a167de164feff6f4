"""torchdiffeq: solutions of differential equations, and gradients through the solver and by the adjoint method."""
# tolerance: 2e-3

import torch
from torch import nn
from torchdiffeq import odeint, odeint_adjoint, odeint_event

spiral = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
start, times = torch.tensor([[2.0, 0.0]]), torch.linspace(0, 1, 4)


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, t, y):
        return self.net(y**3)


for method in ("dopri5", "rk4", "midpoint", "bosh3"):
    print(method, odeint(lambda t, y: y @ spiral, start, times, method=method)[-1])
for solve in (odeint, odeint_adjoint):
    for method in ("dopri5", "rk4"):
        torch.manual_seed(1)
        field, y, t = Field(), start.clone().requires_grad_(), times.clone().requires_grad_()
        loss = (solve(field, y, t, rtol=1e-4, atol=1e-5, method=method) ** 2).mean()
        loss.backward()
        print(solve.__name__, method, loss.item(), y.grad, t.grad, [p.grad.norm().item() for p in field.parameters()])

ground = odeint_event(lambda t, y: torch.stack([y[1], torch.tensor(-9.8)]), torch.tensor([10.0, 0.0]),
                      torch.tensor(0.0), event_fn=lambda t, y: y[0], rtol=1e-5, atol=1e-6)
print("hits the ground at", ground[0])

torch.manual_seed(1)
field, truth = Field(), odeint(lambda t, y: (y**3) @ spiral, start, times)
optimizer = torch.optim.RMSprop(field.parameters(), lr=1e-2)
for _ in range(3):
    optimizer.zero_grad()
    loss = (odeint_adjoint(field, start, times, rtol=1e-4, atol=1e-5) - truth).abs().mean()
    loss.backward()
    optimizer.step()
    print("training", loss.item())
