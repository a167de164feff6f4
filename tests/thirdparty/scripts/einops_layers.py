"""einops on tensors: rearrange, reduce, repeat, einsum, pack, their layers, and gradients through them."""

import pickle

import torch
from einops import einsum, pack, parse_shape, rearrange, reduce, repeat, unpack
from einops.layers.torch import EinMix, Rearrange, Reduce

torch.manual_seed(0)
x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
print(rearrange(x, "b c (h h2) (w w2) -> b (c h2 w2) h w", h2=2, w2=2)[1, :, 1, 2])
print(rearrange([x[0], x[1]], "b c h w -> (b h) w c")[5, 3])
print(reduce(x, "b c (h h2) (w w2) -> b c h w", "max", h2=2, w2=3)[0, 1])
for how in ("mean", "min", "sum", "prod"):
    print(how, reduce(x / 100, "b c h w -> c w", how)[2])
print(reduce(x > 70, "b c h w -> b c", "any"), parse_shape(x, "b _ h w"))
print(repeat(x[0, 0], "h w -> (h r) (w s)", r=2, s=3).shape, repeat(torch.tensor(3), "-> n", n=4))
print(einsum(x, x, "b c h w, b d h w -> b c d")[1])
packed, shapes = pack([x[0], x[1, :, 0], torch.zeros(3)], "c *")
print(packed.shape, shapes, [tuple(part.shape) for part in unpack(packed, shapes, "c *")])

x = torch.linspace(-1, 1, 144).reshape(2, 3, 4, 6).requires_grad_()
(reduce(x**2, "b c h w -> b h", "mean") * torch.arange(8.0).reshape(2, 4)).sum().backward()
print(x.grad[1, 2, :, 0])


def network(last):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, kernel_size=(5, 5)),
        Reduce("b c (h h2) (w w2) -> b c h w", "max", h2=2, w2=2),
        torch.nn.Conv2d(6, 16, kernel_size=(5, 5)),
        Reduce("b c (h h2) (w w2) -> b c h w", "max", h2=2, w2=2),
        Rearrange("b c h w -> b (c h w)"),
        torch.nn.Linear(16 * 5 * 5, 120),
        torch.nn.ReLU(),
        EinMix("b (g i) -> b (g o)", weight_shape="g i o", bias_shape="g o", g=4, i=30, o=21),
        torch.nn.Linear(84, last),
    )


first, second = network(10), network(10)
image = torch.randn(4, 3, 32, 32)
print(torch.allclose(first(image), second(image)))
second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
print(torch.allclose(first(image), second(image)), list(first.state_dict())[-4:])
second(image).logsumexp(-1).sum().backward()
print(second[7].weight.grad.norm(), second[0].weight.grad.norm(), second[7])
