"""What is in the picture? A network trained on ImageNet gives its five best guesses, which are written on it.

Shows: loading weights, the preprocessing and the names of classes that belong to them, softmax and top-k, text on a
    picture.
Data: any pictures; without one, the photograph of Grace Hopper that comes with matplotlib.
Run: python examples/recognition.py [PICTURE ...] [--weights FILE] [--out runs/recognition]
Weights: without `--weights`, a state dict of SqueezeNet 1.0, the published one is downloaded.
Expect: what Grace Hopper wears (she herself is not among the classes), and recognition.png.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.cbook import get_sample_data
from PIL import Image

import flambeau as torch
from flambeau.vision import models, transforms

plt.switch_backend("agg")


@torch.no_grad()
def recognise(model, prepare, image, k=5):
    """The k best classes of a PIL image, as pairs of class and probability."""
    logits = model(prepare(image).unsqueeze(0))
    probabilities, classes = torch.nn.functional.softmax(logits[0], dim=0).topk(k)
    return list(zip(classes.tolist(), probabilities.tolist()))


def draw(images, captions, path):
    """The pictures side by side, each with its caption in the lower left corner."""
    figure, axes = plt.subplots(1, len(images), figsize=(4 * len(images), 4.4), layout="constrained", squeeze=False)
    for panel, image, caption in zip(axes[0], images, captions):
        panel.imshow(transforms.CenterCrop(224)(transforms.Resize(256)(image)))
        panel.text(
            4, 219, caption, color="white", va="bottom", fontsize=10, linespacing=1.4, family="monospace",
            bbox={"facecolor": "black", "alpha": 0.6, "linewidth": 0},
        )  # fmt: skip
        panel.set_axis_off()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", type=Path)
    parser.add_argument("--weights", type=Path, help="a file with SqueezeNet 1.0's state dict")
    parser.add_argument("--out", type=Path, default=Path("runs/recognition"))
    args = parser.parse_args(argv)

    published = models.SqueezeNet1_0_Weights.IMAGENET1K_V1
    prepare, names = published.transforms(), published.meta["categories"]
    model = models.squeezenet1_0(weights=published if args.weights is None else None).eval()
    if args.weights is not None:
        model.load_state_dict(torch.load(args.weights))

    paths = args.pictures or [get_sample_data("grace_hopper.jpg", asfileobj=False)]
    images = [Image.open(path).convert("RGB") for path in paths]
    results, captions = [], []
    for path, image in zip(paths, images):
        results.append(recognise(model, prepare, image))
        captions.append("\n".join(f"{probability:4.0%} {names[label]}" for label, probability in results[-1]))
        print(f"{path}\n" + "\n".join(f"  {probability:.4f} {names[label]}" for label, probability in results[-1]))

    args.out.mkdir(parents=True, exist_ok=True)
    draw(images, captions, args.out / "recognition.png")
    return results


if __name__ == "__main__":
    main()
