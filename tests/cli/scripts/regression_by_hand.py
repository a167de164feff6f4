"""A line fitted three ways: gradients by hand, by autograd, and with nn and optim."""

import torch

celsius = torch.tensor([0.5, 14.0, 15.0, 28.0, 11.0, 8.0, 3.0, -4.0, 6.0, 13.0, 21.0])
unknown = torch.tensor([35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4])
scaled = 0.1 * unknown


def model(x, w, b):
    return w * x + b


def loss_fn(guess, truth):
    return ((guess - truth) ** 2).mean()


params = torch.tensor([1.0, 0.0])
for epoch in range(1, 1001):
    w, b = params
    guess = model(scaled, w, b)
    slope = 2 * (guess - celsius) / guess.size(0)
    params = params - 1e-2 * torch.stack([(slope * scaled).sum(), slope.sum()])
    if epoch in (1, 500, 1000):
        print(f"by hand, epoch {epoch}, loss {loss_fn(guess, celsius):.4f}, params {params}")

params = torch.tensor([1.0, 0.0], requires_grad=True)
for epoch in range(1, 1001):
    if params.grad is not None:
        params.grad.zero_()
    loss = loss_fn(model(scaled, *params), celsius)
    loss.backward()
    with torch.no_grad():
        params -= 1e-2 * params.grad
print("autograd", loss, params, params.is_leaf, loss.grad_fn is not None)

torch.manual_seed(2)
net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
shuffled = torch.randperm(11)
train, val = shuffled[:-2], shuffled[-2:]
print("indices", train, val)
for epoch in range(1, 201):
    train_loss = torch.nn.MSELoss()(net(scaled[train].unsqueeze(1)), celsius[train].unsqueeze(1))
    optimizer.zero_grad()
    train_loss.backward()
    optimizer.step()
    if epoch % 100 == 0:
        with torch.no_grad():
            val_loss = torch.nn.functional.mse_loss(net(scaled[val].unsqueeze(1)), celsius[val].unsqueeze(1))
        print("Epoch {}, Training loss {:.3f}, Validation loss {:.3f}".format(epoch, train_loss.item(), val_loss))
print(net)
for name, parameter in net.named_parameters():
    print(name, tuple(parameter.shape), parameter.requires_grad)
