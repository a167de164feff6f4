"""Transfer learning: a network that knows ImageNet learns new classes from a few hundred pictures.

Shows: a pretrained SqueezeNet or ResNet-18 cut into body, last block and head; first only a new head learns, then
    the last block as well, with a smaller step. The body stays frozen, so its outputs are computed once.
Data: with `--data` a folder with train/CLASS/*.jpg and val/CLASS/*.jpg, such as the ants and bees of the PyTorch
    tutorials; without, shapes that shapes.py draws.
Run: python examples/transfer_learning.py [--data FOLDER] [--weights FILE|none] [--network squeezenet1_0|resnet18]
    [--size 224] [--epochs 10] [--finetune-epochs 5] [--out runs/transfer_learning]
Weights: without `--weights` they are downloaded; `none` leaves the network as it was born.
Expect: 94 to 95 % of the ants and bees right (54 % for always saying bees), and result.png with the accuracy after
    each epoch, and the network's certainty before and after the last block learns.
"""

import argparse
from collections import OrderedDict
from pathlib import Path

import matplotlib.pyplot as plt
from shapes import draw_folder

import flambeau as torch
from flambeau import nn
from flambeau.utils.data import DataLoader, TensorDataset
from flambeau.vision import models, transforms
from flambeau.vision.datasets import ImageFolder

plt.switch_backend("agg")


def cut(network, num_classes):
    """The network as Sequential: a body, its last block, and a new head on 512 standardised features."""
    if isinstance(network, models.SqueezeNet):
        body, block = network.features[:12], network.features[12]
    else:
        parts = list(network.children())  # conv1, bn1, relu, maxpool, layer1 to layer4, avgpool, fc
        body, block = nn.Sequential(*parts[:7]), parts[7]
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(512, affine=False), nn.Linear(512, num_classes)
    )
    return nn.Sequential(OrderedDict(body=body, block=block, head=head))


@torch.no_grad()
def body_outputs(model, folder, size):
    """What the frozen body makes of every picture in the folder, and the labels."""
    prepare = transforms.Compose([
        transforms.Resize(size * 8 // 7), transforms.CenterCrop(size), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    batches = [(model.body(images), labels) for images, labels in DataLoader(ImageFolder(folder, prepare), 16)]
    outputs, labels = zip(*batches)
    return torch.cat(outputs), torch.cat(labels)


def train_epoch(model, loader, optimizer):
    """One pass over the body's outputs through block and head; the mean loss."""
    model.head.train()
    total = 0.0
    for inputs, labels in loader:
        loss = nn.functional.cross_entropy(model.head(model.block(inputs)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, inputs, labels):
    """The accuracy, and by how much the logit of the right class exceeds the best other one: (N,)."""
    model.head.eval()
    logits = torch.cat([model.head(model.block(batch)) for batch in inputs.split(32)])
    right = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), float("-inf")).amax(1)
    margins = right - others
    return (margins > 0).float().mean().item(), margins


def draw(accuracies, unfrozen, before, after, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.plot(range(1, len(accuracies) + 1), accuracies, "o-")
    left.axvline(unfrozen + 0.5, color="0.6", linestyle=":", label="last block unfrozen")
    left.set(xlabel="epoch", title="accuracy on held-out pictures", ylim=(max(0, min(accuracies) - 0.1), 1))
    left.grid(alpha=0.25)
    left.legend(frameon=False, loc="lower right")
    bins = torch.linspace(torch.cat([before, after]).min(), torch.cat([before, after]).max(), 40)
    right.hist(before.numpy(), bins.numpy(), alpha=0.6, label="head trained")
    right.hist(after.numpy(), bins.numpy(), alpha=0.6, label="last block trained, too")
    right.axvline(0, color="black", linewidth=1)
    right.set(title="lead of the right class over the next", xlabel="difference of logits", ylabel="pictures")
    right.legend(frameon=False)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with train/ and val/; drawn where missing")
    parser.add_argument("--network", choices=("squeezenet1_0", "resnet18"), default="squeezenet1_0")
    parser.add_argument("--weights", help="a file with the network's state dict, or none")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--finetune-epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer_learning"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    root = args.data or draw_folder(args.out / "data")

    torch.manual_seed(0)
    network = getattr(models, args.network)(weights="DEFAULT" if args.weights is None else None)
    if args.weights not in (None, "none"):
        network.load_state_dict(torch.load(args.weights))
    classes = ImageFolder(root / "train").classes
    model = cut(network, len(classes))
    model.body.requires_grad_(False)
    model.block.requires_grad_(False)
    model.eval()  # batch normalisation in body and block keeps the statistics of ImageNet
    inputs, labels = body_outputs(model, root / "train", args.size)
    test_inputs, test_labels = body_outputs(model, root / "val", args.size)
    print(f"{len(labels)} pictures to learn from, {len(test_labels)} held out; classes {', '.join(classes)}")
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)

    accuracies, margins, losses = [], [], []
    optimizer = torch.optim.SGD(model.head.parameters(), lr=3e-3, momentum=0.9)
    for epoch in range(1, args.epochs + args.finetune_epochs + 1):
        if epoch == args.epochs + 1:
            model.block.requires_grad_(True)
            # The block knows a lot already: it takes smaller steps than the head.
            optimizer.add_param_group({"params": model.block.parameters(), "lr": 1e-4})
        losses.append(train_epoch(model, loader, optimizer))
        accuracy, margin = evaluate(model, test_inputs, test_labels)
        accuracies.append(accuracy)
        margins.append(margin)
        what = "head" if epoch <= args.epochs else "head and last block"
        print(f"epoch {epoch:2}: {what}: training loss {losses[-1]:.4f}, accuracy {accuracies[-1]:.1%}")

    draw(accuracies, args.epochs, margins[args.epochs - 1], margins[-1], args.out / "result.png")
    torch.save(model.state_dict(), args.out / "model.pt")
    return {"accuracies": accuracies, "losses": losses, "model": model, "network": network}


if __name__ == "__main__":
    main()
