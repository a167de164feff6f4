"""flambeau.vision.models: published sizes, names of parameters, and real weights on real photographs."""

import hashlib
import json
import math
import os
import pathlib
import re
import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau import hub, nn
from flambeau.vision import models
from flambeau.vision.datasets.folder import pil_loader

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
RECORDED = json.loads(pathlib.Path(__file__).with_name("models.json").read_text(encoding="utf-8"))
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


def test_every_model_has_its_published_size_and_torchvisions_state():
    """Numbers of parameters from the documentation; names, shapes, dtypes and order as recorded from torchvision."""
    assert models.list_models() == sorted(PARAMETERS) == sorted(RECORDED)
    counts, states = {}, {}
    for name in PARAMETERS:
        net = unmade(name)
        counts[name] = sum(p.numel() for p in net.parameters())
        if name == "googlenet":  # recorded with its inner classifiers
            net = unmade(name, aux_logits=True)
        lines = (f"{key} {list(value.shape)} {value.dtype}" for key, value in net.state_dict().items())
        states[name] = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert counts == PARAMETERS
    assert states == {name: facts["state"] for name, facts in RECORDED.items()}


@pytest.mark.parametrize("name", [name for name, facts in RECORDED.items() if "logits" in facts])
def test_logits_from_a_seed_are_torchvisions(name):
    """Initialisation draws the same numbers in the same order, and the network computes the same with them."""
    facts = RECORDED[name]
    torch.manual_seed(0)
    net = models.get_model(name).eval()
    with torch.no_grad():
        logits = net(torch.randn(1, 3, facts["side"], facts["side"]))
    expected = torch.tensor(facts["logits"])
    torch.testing.assert_close(logits[0, :6], expected, rtol=1e-3, atol=2e-5 + 1e-4 * expected.abs().max().item())


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


def test_trained_inception_v3_is_torchvisions(monkeypatch):
    torch.manual_seed(0)
    source = models.inception_v3(init_weights=False).state_dict()
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", lambda self, **options: source)
    with pytest.warns(UserWarning, match="deprecated"):
        net = models.inception_v3(pretrained=True)
    assert net.transform_input and net.training and net.aux_logits and net.Mixed_7c.branch_pool.bn.eps == 1e-3
    assert net.fc.weight.equal(source["fc.weight"])
    net = models.inception_v3(weights="DEFAULT", aux_logits=False, transform_input=False)
    assert net.AuxLogits is None and not net.transform_input


def test_densenet_reads_the_published_files_old_names(checkpoints):
    torch.manual_seed(0)
    source = models.densenet121()
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): value for key, value in source.state_dict().items()}
    assert "features.denseblock2.denselayer3.norm.1.weight" in old
    torch.save(old, checkpoints / "densenet121-a639ec97.pth")
    assert models.densenet121(weights="DEFAULT").features.norm5.weight.equal(source.features.norm5.weight)


def test_vit_wants_its_own_image_size():
    with pytest.raises(AssertionError, match="image height: expected 224, got 64"):
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


def test_weights_know_their_classes_and_scores():
    weights = models.ResNet50_Weights.IMAGENET1K_V2
    assert weights.meta["num_params"] == PARAMETERS["resnet50"] and weights.meta["min_size"] == (1, 1)
    assert weights.meta["_metrics"] == {"ImageNet-1K": {"acc@1": 80.858, "acc@5": 95.434}}
    names = weights.meta["categories"]
    assert (len(names), names[0], names[207], names[999]) == (1000, "tench", "golden retriever", "toilet tissue")
    assert repr(weights) == "ResNet50_Weights.IMAGENET1K_V2" and weights.url.endswith("/resnet50-11ad3fa6.pth")
    features = models.VGG16_Weights.IMAGENET1K_FEATURES
    assert features.meta["categories"] is None and math.isnan(features.meta["_metrics"]["ImageNet-1K"]["acc@1"])
    for name in models.list_models():
        for member in models.get_model_weights(name):
            assert re.fullmatch(r"https://download.pytorch.org/models/.+-[0-9a-f]{8,10}\.pth", member.url), member
            assert {"num_params", "min_size", "recipe", "_metrics", "_ops", "_file_size"} <= set(member.meta)
            sized = "swag" not in member.url.lower() and name not in OPTIONS
            assert not sized or member.meta["num_params"] == PARAMETERS[name], member


@pytest.mark.skipif(not (DATA / "imagenet_classes.txt").exists(), reason=f"no list of classes in {DATA}")
def test_classes_stand_in_the_order_of_the_synsets():
    """Against another source's list, whose two pairs of namesakes torchvision tells apart."""
    ours = models.ResNet18_Weights.DEFAULT.meta["categories"]
    theirs = (DATA / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    apart = {(a, b) for a, b in zip(ours, theirs, strict=True) if a.lower() != b.lower()}
    assert apart == {("crane bird", "crane"), ("maillot tank suit", "maillot")}


def test_weights_for_another_size_make_a_network_of_that_size():
    with pytest.raises(ValueError, match="image_size: the weights are for 384, got 224"):
        models.vit_b_16(weights=models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1, image_size=224)


def test_presets_take_tensors_and_images():
    from PIL import Image

    prepare = models.ResNet18_Weights.DEFAULT.transforms()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280, 3), np.uint8)
    image = Image.fromarray(pixels)
    single = torch.from_numpy(pixels).permute(2, 0, 1)
    assert prepare(image).shape == (3, 224, 224) and prepare(torch.stack([single, single])).shape == (2, 3, 224, 224)
    assert (prepare(image) - prepare(single)).abs().max() < 0.05
    assert "crop_size=[224]" in repr(prepare) and "[0.485, 0.456, 0.406]" in prepare.describe()


def test_networks_refuse_impossible_sizes():
    with pytest.raises(ValueError, match="not divisible by partition size 7"):
        unmade("maxvit_t", input_size=(200, 200))
    with pytest.raises(ValueError, match="must be of length 2"):
        unmade("swin_t", window_size=[7])


def test_swin_takes_images_that_do_not_fit_its_windows():
    torch.manual_seed(0)
    net = models.SwinTransformer([4, 4], 12, [2, 2], [2, 3], [7, 7], num_classes=3).eval()
    with torch.no_grad():
        assert net(torch.randn(2, 3, 50, 75)).shape == (2, 3)


def test_a_small_maxvit_computes_what_torchvisions_does():
    torch.manual_seed(0)
    net = models.MaxVit((64, 64), 16, 2, [16, 32], [1, 1], 16, 0.0, num_classes=5).eval()
    with torch.no_grad():
        logits = net(torch.randn(1, 3, 64, 64))[0]
    expected = torch.tensor([-0.002773, -0.00857, -0.014763, -0.00335, -0.008699])
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=2e-6)


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


@pytest.mark.skipif(not (DATA / "squeezenet1_0.pth").exists(), reason=f"no real weights in {DATA}")
def test_real_weights_recognise_real_photographs(checkpoints):
    """Top-5 of SqueezeNet on 60 photographs, as torchvision computed it."""
    (checkpoints / "squeezenet1_0-b66bff10.pth").symlink_to(DATA / "squeezenet1_0.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = models.squeezenet1_0(pretrained=True).eval()
    expected = json.loads((DATA / "imagenet_expected.json").read_text(encoding="utf-8"))["images"]
    with torch.no_grad():
        prepare = models.SqueezeNet1_0_Weights.DEFAULT.transforms()
        batch = torch.stack([prepare(pil_loader(DATA / row["file"])) for row in expected])
        top = net(batch).softmax(1).topk(5)
    assert len(expected) == 60
    assert top.indices.tolist() == [row["top5_index"] for row in expected]
    recorded = np.array([row["top5_prob"] for row in expected])
    np.testing.assert_allclose(top.values.numpy(), recorded, rtol=0, atol=1e-3)
