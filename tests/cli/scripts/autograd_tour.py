"""What tutorials show of tensors and autograd: views, broadcasting, graphs, hooks, custom functions, Jacobians."""

import numpy as np
import torch

x = torch.arange(12).reshape(3, 4)
print(x, x.dtype, x.shape, x.stride(), x[:, 1:3].storage_offset())
print(torch.cat([x, x * 2], dim=0)[-1], x.float().mean(0), (x % 3 == 0).sum(), x.T.is_contiguous())
print(np.asarray(x[0]).tolist(), torch.from_numpy(np.eye(2)).dtype, x.sum().item(), x[x > 8])
y = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
z = (y + 2) ** 2 * 3
out = z.mean()
print(z, out.grad_fn.name(), out)
out.backward(retain_graph=True)
print(y.grad, z.is_leaf, y.is_leaf)
handle = y.register_hook(lambda grad: grad * 10)
out.backward()
handle.remove()
print(y.grad)
v = torch.tensor([1.0, 0.1])
(y.sum(0) * v).backward(v)
print(y.grad)


class Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, i):
        result = i.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, grad_output):
        (result,) = ctx.saved_tensors
        return grad_output * result


w = torch.tensor([0.5, -1.0], requires_grad=True)
print(Exp.apply(w), torch.autograd.gradcheck(Exp.apply, (w.double().detach().requires_grad_(),)))
(g,) = torch.autograd.grad(Exp.apply(w).prod(), w, create_graph=True)
print(g, torch.autograd.grad(g.sum(), w)[0])
print(torch.autograd.functional.jacobian(lambda t: t**3, torch.tensor([1.0, 2.0])))
print(torch.func.grad(lambda t: torch.sin(t).sum())(torch.tensor([0.0, 1.0])))
with torch.no_grad():
    print((w * 2).requires_grad, w.detach().requires_grad)
try:
    w.sum().backward()
    torch.ones(2, 3) @ torch.ones(2, 3)
except RuntimeError as error:
    print(type(error).__name__)
t = torch.linspace(-np.pi, np.pi, 200)
a, b, c, d = (torch.tensor(value, requires_grad=True) for value in (0.1, 0.2, 0.3, 0.4))
for step in range(100):
    loss = (a + b * t + c * t**2 + d * t**3 - torch.sin(t)).pow(2).sum()
    loss.backward()
    with torch.no_grad():
        for p in (a, b, c, d):
            p -= 1e-6 * p.grad
            p.grad = None
    if step % 50 == 49:
        print(step, loss.item())
print(f"Result: y = {a.item():.5f} + {b.item():.5f} x + {c.item():.5f} x^2 + {d.item():.5f} x^3")
print("{:.2f}".format(torch.tensor(3.14159)), torch.randn(2, 3, generator=torch.Generator().manual_seed(1)))
