"""flambeau.vision.models: published sizes, names of parameters, and real weights on real photographs."""

import json
import os
import pathlib
import re
import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau import hub, nn
from flambeau.vision import models

DATA = pathlib.Path(os.environ.get("FLAMBEAU_TEST_DATA", pathlib.Path(__file__).parents[3] / "shared" / "data"))

# Numbers of parameters that torchvision's documentation gives for its weights.
PARAMETERS = {
    "alexnet": 61_100_840,
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160,
    "resnet152": 60_192_808, "resnext50_32x4d": 25_028_904, "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272, "wide_resnet50_2": 68_883_240, "wide_resnet101_2": 126_886_696,
    "squeezenet1_0": 1_248_424, "squeezenet1_1": 1_235_496,
    "vgg11": 132_863_336, "vgg11_bn": 132_868_840, "vgg13": 133_047_848, "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544, "vgg16_bn": 138_365_992, "vgg19": 143_667_240, "vgg19_bn": 143_678_248,
    "densenet121": 7_978_856, "densenet161": 28_681_000, "densenet169": 14_149_480, "densenet201": 20_013_928,
    "mobilenet_v2": 3_504_872, "mobilenet_v3_large": 5_483_032, "mobilenet_v3_small": 2_542_856,
    "googlenet": 6_624_904, "inception_v3": 27_161_264,
    "mnasnet0_5": 2_218_512, "mnasnet0_75": 3_170_208, "mnasnet1_0": 4_383_312, "mnasnet1_3": 6_282_256,
    "shufflenet_v2_x0_5": 1_366_792, "shufflenet_v2_x1_0": 2_278_604, "shufflenet_v2_x1_5": 3_503_624,
    "shufflenet_v2_x2_0": 7_393_996,
    "efficientnet_b0": 5_288_548, "efficientnet_b1": 7_794_184, "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232, "efficientnet_b4": 19_341_616, "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704, "efficientnet_b7": 66_347_960, "efficientnet_v2_s": 21_458_488,
    "efficientnet_v2_m": 54_139_356, "efficientnet_v2_l": 118_515_272,
    "convnext_tiny": 28_589_128, "convnext_small": 50_223_688, "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "vit_b_16": 86_567_656, "vit_b_32": 88_224_232, "vit_l_16": 304_326_632, "vit_l_32": 306_535_400,
    "vit_h_14": 632_045_800,
    "regnet_y_400mf": 4_344_144, "regnet_y_800mf": 6_432_512, "regnet_y_1_6gf": 11_202_430,
    "regnet_y_3_2gf": 19_436_338, "regnet_y_8gf": 39_381_472, "regnet_y_16gf": 83_590_140,
    "regnet_y_32gf": 145_046_770, "regnet_y_128gf": 644_812_894,
    "regnet_x_400mf": 5_495_976, "regnet_x_800mf": 7_259_656, "regnet_x_1_6gf": 9_190_136,
    "regnet_x_3_2gf": 15_296_552, "regnet_x_8gf": 39_572_648, "regnet_x_16gf": 54_278_536,
    "regnet_x_32gf": 107_811_560,
    "swin_t": 28_288_354, "swin_s": 49_606_258, "swin_b": 87_768_224,
    "swin_v2_t": 28_351_570, "swin_v2_s": 49_737_442, "swin_v2_b": 87_930_848,
    "maxvit_t": 30_919_624,
}
OPTIONS = {"googlenet": {"aux_logits": False, "init_weights": False}, "inception_v3": {"init_weights": False}}

# First, some middle and last names, in the order of torchvision's files.
KEYS = {
    "resnet50": [
        "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked",
        "layer1.0.conv1.weight", "layer1.0.downsample.0.weight", "layer1.0.downsample.1.num_batches_tracked",
        "layer1.1.conv1.weight", "layer4.2.bn3.num_batches_tracked", "fc.weight", "fc.bias",
    ],
    "alexnet": ["features.0.weight", "features.10.bias", "classifier.1.weight", "classifier.6.bias"],
    "vgg16": ["features.0.weight", "features.28.bias", "classifier.0.weight", "classifier.6.bias"],
    "vgg11_bn": ["features.0.weight", "features.1.running_var", "features.26.num_batches_tracked", "classifier.3.bias"],
    "squeezenet1_1": ["features.0.weight", "features.3.squeeze.weight", "features.12.expand3x3.bias",
                      "classifier.1.weight", "classifier.1.bias"],
    "densenet121": ["features.conv0.weight", "features.denseblock1.denselayer1.norm1.weight",
                    "features.denseblock1.denselayer6.conv2.weight", "features.transition1.norm.weight",
                    "features.transition3.conv.weight", "features.norm5.running_var", "classifier.bias"],
    "mobilenet_v2": ["features.0.0.weight", "features.1.conv.0.0.weight", "features.1.conv.2.running_var",
                     "features.2.conv.3.num_batches_tracked", "features.18.1.bias", "classifier.1.bias"],
    "mobilenet_v3_large": ["features.0.0.weight", "features.1.block.0.0.weight", "features.4.block.2.fc1.weight",
                           "features.4.block.2.fc2.bias", "features.4.block.3.0.weight", "features.16.1.running_var",
                           "classifier.0.weight", "classifier.3.bias"],
    "googlenet": ["conv1.conv.weight", "conv1.bn.weight", "inception3a.branch1.conv.weight",
                  "inception3a.branch3.1.bn.running_var", "inception5b.branch4.1.bn.bias", "fc.bias"],
    "inception_v3": ["Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch5x5_2.bn.bias", "Mixed_6e.branch7x7dbl_5.conv.weight",
                     "AuxLogits.conv0.conv.weight", "AuxLogits.fc.bias", "Mixed_7a.branch7x7x3_4.bn.weight",
                     "Mixed_7c.branch3x3dbl_3b.conv.weight", "fc.weight"],
    "mnasnet1_0": ["layers.0.weight", "layers.7.bias", "layers.8.0.layers.0.weight", "layers.13.0.layers.7.weight",
                   "layers.15.running_var", "classifier.1.bias"],
    "shufflenet_v2_x1_0": ["conv1.0.weight", "stage2.0.branch1.0.weight", "stage2.0.branch2.6.weight",
                           "stage4.3.branch2.5.weight", "conv5.1.bias", "fc.bias"],
    "efficientnet_b0": ["features.0.0.weight", "features.1.0.block.0.0.weight", "features.1.0.block.1.fc1.weight",
                        "features.2.0.block.2.fc2.bias", "features.7.0.block.3.1.bias", "features.8.1.running_var",
                        "classifier.1.weight"],
    "efficientnet_v2_s": ["features.0.0.weight", "features.1.1.block.0.1.bias", "features.2.0.block.1.0.weight",
                          "features.4.0.block.2.fc1.bias", "features.7.0.weight", "classifier.1.bias"],
    "convnext_tiny": ["features.0.0.weight", "features.0.1.bias", "features.1.0.layer_scale",
                      "features.1.0.block.0.weight", "features.1.0.block.5.bias", "features.2.0.weight",
                      "features.2.1.weight", "features.7.2.block.2.weight", "classifier.0.bias", "classifier.2.weight"],
    "vit_b_16": ["class_token", "conv_proj.weight", "encoder.pos_embedding",
                 "encoder.layers.encoder_layer_0.ln_1.weight",
                 "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
                 "encoder.layers.encoder_layer_0.self_attention.out_proj.bias",
                 "encoder.layers.encoder_layer_0.mlp.0.weight", "encoder.layers.encoder_layer_11.mlp.3.bias",
                 "encoder.ln.weight", "heads.head.weight"],
}


def unmade(name, **options):
    """A model without memory for its values."""
    with torch.device("meta"):
        return models.get_model(name, **{**OPTIONS.get(name, {}), **options})


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """A hub folder of the test's own, so that nothing is fetched."""
    monkeypatch.setattr(hub, "_chosen", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_every_model_has_its_published_size():
    assert models.list_models() == sorted(PARAMETERS)
    counts = {name: sum(p.numel() for p in unmade(name).parameters()) for name in PARAMETERS}
    assert counts == PARAMETERS


@pytest.mark.parametrize("name", KEYS)
def test_names_stand_in_torchvisions_order(name):
    found = list(unmade(name).state_dict())
    places = [found.index(key) for key in KEYS[name]]
    assert places == sorted(places) and places[0] == 0


SMALLEST = ["mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5",
            "squeezenet1_1"]


SMALL = {
    "densenet": lambda: models.DenseNet(8, (2, 2, 2, 2), 16, num_classes=3),
    "convnext": lambda: models.ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), 0.1, num_classes=3),
    "vit": lambda: models.VisionTransformer(64, 16, 2, 2, 16, 32, dropout=0.1, num_classes=3),
}


@pytest.mark.parametrize("name", [*SMALLEST, *SMALL, "efficientnet_b0"])
def test_one_training_step(name):
    torch.manual_seed(0)
    net = SMALL[name]() if name in SMALL else models.get_model(name, num_classes=3)
    loss = nn.functional.cross_entropy(net(torch.randn(2, 3, 64, 64)), torch.tensor([0, 2]))
    loss.backward()
    assert loss.item() > 0 and all(p.grad is not None for p in net.parameters())


def test_inner_classifiers_answer_in_training_mode():
    torch.manual_seed(0)
    net = models.googlenet(num_classes=3, init_weights=False)
    found = net(torch.randn(2, 3, 64, 64))
    assert type(found) is models.GoogLeNetOutputs and {part.shape for part in found} == {(2, 3)}
    assert sum(p.numel() for p in unmade("googlenet", aux_logits=True).parameters()) == 13_004_888
    net = models.inception_v3(num_classes=3, init_weights=False)
    with torch.no_grad():
        found = net(torch.randn(2, 3, 299, 299))
        assert type(found) is models.InceptionOutputs and {part.shape for part in found} == {(2, 3)}
        assert net.eval()(torch.randn(1, 3, 96, 96)).shape == (1, 3)
    assert net.Conv2d_1a_3x3.bn.eps == 1e-3
    with pytest.warns(FutureWarning, match="init_weights"), torch.device("meta"):
        models.inception_v3()


def test_trained_inception_networks_take_torchvisions_images(checkpoints):
    torch.manual_seed(0)
    source = models.googlenet(init_weights=False)
    torch.save(source.state_dict(), checkpoints / "googlenet-1378be20.pth")
    net = models.googlenet(weights="DEFAULT").eval()
    assert net.transform_input and net.aux1 is None and not net.aux_logits
    x = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(net((x - mean) / std), source.eval()((x - 0.5) / 0.5), rtol=1e-3, atol=1e-4)


def test_densenet_reads_the_published_files_old_names(checkpoints):
    torch.manual_seed(0)
    source = models.densenet121()
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): value for key, value in source.state_dict().items()}
    assert "features.denseblock2.denselayer3.norm.1.weight" in old
    torch.save(old, checkpoints / "densenet121-a639ec97.pth")
    assert models.densenet121(weights="DEFAULT").features.norm5.weight.equal(source.features.norm5.weight)


def test_vit_wants_its_own_image_size():
    with pytest.raises(AssertionError, match="expected 224×224, got 64×64"):
        unmade("vit_b_32")(torch.zeros(1, 3, 64, 64, device="meta"))
    assert unmade("vit_b_32", image_size=64).encoder.pos_embedding.shape == (1, 5, 768)


def test_weights_come_with_their_transforms():
    weights = models.EfficientNet_B1_Weights
    crops = [member.transforms.keywords["crop_size"] for member in weights]
    methods = [member.transforms().interpolation for member in weights]
    assert (crops, [method.value for method in methods]) == ([240, 240], ["bicubic", "bilinear"])
    from PIL import Image

    image = Image.new("RGB", (400, 500), (255, 0, 0))
    prepared = models.Inception_V3_Weights.DEFAULT.transforms()(image)
    assert prepared.shape == (3, 299, 299)
    red = (1 - 0.485) / 0.229
    assert prepared[0].allclose(torch.full((299, 299), red)) and prepared[1].max() < 0


def test_list_models_takes_patterns():
    assert models.list_models("resnet*") == ["resnet101", "resnet152", "resnet18", "resnet34", "resnet50"]
    assert models.list_models(["resnet1*", "alex*"], exclude="*2") == ["alexnet", "resnet101", "resnet18"]
    assert models.get_model_builder("ResNet18") is models.resnet18
    with pytest.raises(ValueError, match="Unknown model resnet19"):
        models.get_model("resnet19")


def test_weights_by_any_spelling(checkpoints):
    torch.manual_seed(0)
    source = models.resnet18()
    torch.save(source.state_dict(), checkpoints / "resnet18-f37072fd.pth")
    for weights in (models.ResNet18_Weights.DEFAULT, "DEFAULT", "ResNet18_Weights.IMAGENET1K_V1"):
        assert models.resnet18(weights=weights).fc.weight.equal(source.fc.weight)
    with pytest.warns(UserWarning) as caught:
        assert models.resnet18(pretrained=True).fc.weight.equal(source.fc.weight)
    assert "'pretrained' is deprecated" in str(caught[0].message)
    with pytest.warns(UserWarning, match="deprecated"):
        models.resnet18(pretrained=False, num_classes=2)
    with pytest.raises(ValueError, match="num_classes: the weights are for 1000, got 2"):
        models.resnet18(weights="DEFAULT", num_classes=2)
    with pytest.raises(KeyError, match="IMAGENET1K_V7"):
        models.resnet18(weights="IMAGENET1K_V7")
    assert models.get_weight("ResNet50_Weights.IMAGENET1K_V2").url.endswith("/resnet50-11ad3fa6.pth")
    assert models.get_model_weights("resnet50").DEFAULT is models.ResNet50_Weights.IMAGENET1K_V2


def test_blocks_stride_at_the_3x3_convolution():
    block = unmade("resnet50").layer2[0]
    assert block.conv1.stride == (1, 1) and block.conv2.stride == (2, 2)


def test_resnet_options():
    net = unmade("resnet50", replace_stride_with_dilation=[False, True, True], num_classes=7)
    assert net.fc.out_features == 7 and net.layer4[0].conv2.stride == (1, 1) and net.layer4[1].conv2.dilation == (4, 4)
    net = models.resnet18(zero_init_residual=True, norm_layer=lambda channels: nn.GroupNorm(2, channels))
    assert isinstance(net.layer1[0].bn2, nn.GroupNorm) and not net.layer1[0].bn2.weight.any()


def test_truncated_resnet_is_a_feature_extractor():
    net = models.resnet18().eval()
    features = nn.Sequential(*list(net.children())[:-1])
    with torch.no_grad():
        assert features(torch.zeros(2, 3, 64, 64)).shape == (2, 512, 1, 1)


def photograph(path):
    """A centre crop of 224, normalised: the input of torchvision's networks."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32) / 255
    top, left = (round((side - 224) / 2) for side in pixels.shape[:2])
    pixels = (pixels[top:top + 224, left:left + 224] - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))


@pytest.mark.skipif(not (DATA / "squeezenet1_0.pth").exists(), reason=f"no real weights in {DATA}")
def test_real_weights_recognise_real_photographs(checkpoints):
    """Top-5 of SqueezeNet on 60 photographs, as torchvision computed it."""
    (checkpoints / "squeezenet1_0-b66bff10.pth").symlink_to(DATA / "squeezenet1_0.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = models.squeezenet1_0(pretrained=True).eval()
    expected = json.loads((DATA / "imagenet_expected.json").read_text(encoding="utf-8"))["images"]
    with torch.no_grad():
        batch = torch.stack([photograph(DATA / row["file"]) for row in expected])
        top = net(batch).softmax(1).topk(5)
    assert len(expected) == 60
    assert top.indices.tolist() == [row["top5_index"] for row in expected]
    recorded = np.array([row["top5_prob"] for row in expected])
    np.testing.assert_allclose(top.values.numpy(), recorded, rtol=0, atol=1e-3)
