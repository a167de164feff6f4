"""Write a held-out image of each digit as a picture of 160×160, dark ink on white paper: something to predict."""

from pathlib import Path

from PIL import Image, ImageOps

from flambeau.vision.datasets import Digits

for name in Digits.classes:
    image = next(image for image, target in Digits(train=False) if str(target) == name)
    scan = ImageOps.expand(ImageOps.invert(image).resize((128, 128), Image.Resampling.NEAREST), border=16, fill=255)
    scan.save(Path(__file__).parent / f"{name}.png")
