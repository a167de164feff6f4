"""A ResNet without its last layer turns a picture into 512 numbers; pictures of the same thing get similar ones.

Shows: cutting a network with `children()`, features in batches under `no_grad`, cosine similarity, nearest
    neighbours.
Data: the bundled handwritten digits, enlarged; 1,442 with labels to look among, 355 to look for.
Run: python examples/features.py [--weights FILE] [--size 32] [--limit 1442] [--out runs/features]
Weights: without `--weights` (a state dict of ResNet-18) the network is as it was born: even random filters keep
    apart what looks different.
Expect: over 90 % of the held-out digits have a nearest neighbour of their own class; neighbours.png shows ten of
    them.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

import flambeau as torch
from flambeau import nn
from flambeau.vision import models
from flambeau.vision.datasets import Digits
from flambeau.vision.utils import make_grid

plt.switch_backend("agg")


def extractor(weights=None):
    """ResNet-18 up to its average pooling: (N, 3, H, W) -> (N, 512)."""
    network = models.resnet18()
    if weights is not None:
        network.load_state_dict(torch.load(weights))
    return nn.Sequential(*list(network.children())[:-1], nn.Flatten()).eval()


@torch.no_grad()
def features(model, digits, size):
    """The features of greyscale images (N, 8, 8), each of length 1, so that a product is the cosine of the angle."""
    batches = []
    for images in digits.split(64):
        pictures = (images.float() / 16 - 0.5).unsqueeze(1).expand(-1, 3, -1, -1)
        pictures = nn.functional.interpolate(pictures, size=(size, size), mode="bilinear", align_corners=False)
        batches.append(nn.functional.normalize(model(pictures), dim=1))
    return torch.cat(batches)


def draw(queries, found, right, path):
    """A row for each query: the digit, white on black, and its nearest neighbours; wrong ones are red."""
    figure, axes = plt.subplots(figsize=(5, 6), layout="constrained")
    sought = queries.float().div(16).view(-1, 1, 1, 8, 8).expand(-1, 1, 3, -1, -1)
    neighbours = 1 - found.float().div(16).unsqueeze(2).expand(-1, -1, 3, -1, -1)  # (queries, neighbours, 3, 8, 8)
    red = torch.tensor([1.0, 0.4, 0.4]).view(3, 1, 1)
    neighbours = torch.where(right.view(*right.shape, 1, 1, 1), neighbours, neighbours * red)
    table = torch.cat([sought, neighbours], dim=1)
    axes.imshow(make_grid(table.flatten(0, 1), nrow=table.shape[1], padding=1, pad_value=0.6).permute(1, 2, 0))
    axes.set(title="sought, and found", xticks=[], yticks=[])
    figure.savefig(path, dpi=70)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="a file with ResNet-18's state dict")
    parser.add_argument("--size", type=int, default=32, help="side of the enlarged digits in pixels")
    parser.add_argument("--limit", type=int, default=1442, help="digits to look among")
    parser.add_argument("--out", type=Path, default=Path("runs/features"))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    known, sought = Digits(train=True), Digits(train=False)
    model = extractor(args.weights)
    catalogue = features(model, known.data[: args.limit], args.size)
    queries = features(model, sought.data[: args.limit], args.size)
    print(f"features: {tuple(catalogue.shape)} known, {tuple(queries.shape)} sought")

    similarity, nearest = (queries @ catalogue.T).topk(7, dim=1)
    found = known.targets[nearest]  # (queries, 7)
    right = found == sought.targets[: len(queries)].unsqueeze(1)
    first, five = right[:, 0].float().mean().item(), right[:, :5].float().mean().item()
    print(f"the nearest is of the same class: {first:.1%}; of the nearest five: {five:.1%}")
    print(f"mean cosine to the nearest: {similarity[:, 0].mean():.4f}")

    args.out.mkdir(parents=True, exist_ok=True)
    # The first query of each class.
    chosen = [(sought.targets[: len(queries)] == label).nonzero()[0].item() for label in range(10)]
    draw(sought.data[chosen], known.data[nearest[chosen]], right[chosen], args.out / "neighbours.png")
    return {"nearest": first, "five": five, "shape": tuple(catalogue.shape)}


if __name__ == "__main__":
    main()
