"""Nodes of networks by torchvision's names, and extractors made of them."""

import hashlib
import json
import pathlib

import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.vision import models
from flambeau.vision.models.feature_extraction import (
    IntermediateLayerGetter,
    TraceError,
    create_feature_extractor,
    get_graph_node_names,
)

RECORDED = json.loads(pathlib.Path(__file__).with_name("models.json").read_text(encoding="utf-8"))
FAMILIES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32",
]


def digest(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", FAMILIES)
def test_nodes_have_torchvisions_names(name):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        model = models.get_model(name, **options)
    train, evaluate = get_graph_node_names(model, suppress_diff_warning=True)
    facts = RECORDED[name]
    assert (digest(train), digest(evaluate)) == (facts["train"], facts["eval"])
    assert model.training


def test_names_count_repeated_calls_within_a_module():
    with torch.device("meta"):
        train, evaluate = get_graph_node_names(models.resnet18())
    assert train == evaluate
    assert train[:5] == ["x", "conv1", "bn1", "relu", "maxpool"]
    assert train[5:12] == [f"layer1.0.{name}" for name in ("conv1", "bn1", "relu", "conv2", "bn2", "add", "relu_1")]
    assert train[-3:] == ["avgpool", "flatten", "fc"]


def test_features_are_those_of_the_network():
    torch.manual_seed(0)
    net = models.resnet18().eval()
    body = create_feature_extractor(net, {"layer1": "early", "layer3.1.relu_1": "late", "flatten": "flat"})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = body(x)
        early = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))
        late = net.layer3(net.layer2(early))
        flat = net.avgpool(net.layer4(late)).flatten(1)
    assert list(found) == ["early", "late", "flat"]
    for ours, theirs in zip(found.values(), (early, late, flat)):
        assert ours.equal(theirs)
    assert not body.training and "ResNet(" in repr(body)


def test_an_extractor_shares_parameters_and_leaves_out_the_rest():
    net = models.resnet18()
    body = create_feature_extractor(net, ["layer2"])
    rest = ("layer3", "layer4", "fc")
    assert list(body.state_dict()) == [key for key in net.state_dict() if not key.startswith(rest)]
    assert body.get_submodule("layer1.0.conv1") is net.layer1[0].conv1
    body(torch.randn(2, 3, 32, 32))["layer2"].sum().backward()
    assert net.conv1.weight.grad is not None and net.layer3[0].conv1.weight.grad is None


def test_transformers_give_their_tokens():
    torch.manual_seed(0)
    net = models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4).eval()
    body = create_feature_extractor(net, ["encoder.layers.encoder_layer_0.add", "encoder", "getitem_5"])
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = body(x)
        assert {value.shape for name, value in found.items() if name.startswith("encoder")} == {(2, 17, 16)}
        assert net.heads(found["encoder"][:, 0]).equal(net(x))
        swin = models.SwinTransformer([4, 4], 12, [2, 2], [2, 3], [4, 4], num_classes=3).eval()
        stage = create_feature_extractor(swin, {"features.1": "stage", "head": "logits"})(x)
        assert stage["stage"].shape == (2, 8, 8, 12) and stage["logits"].equal(swin(x))


class Branches(nn.Module):
    """Functions, operators, a parameter and a buffer of its own, and different courses in the two modes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        self.scale = nn.Parameter(torch.full((6,), 2.0))
        self.register_buffer("shift", torch.ones(6))
        self.unused = nn.Linear(2, 2)

    def forward(self, x, gain=1.0):
        y = self.first(x) * self.scale + self.shift
        a, b = y.chunk(2, dim=-1)
        y = torch.cat([a, 3 - b], dim=1)
        if self.training:
            y = F.dropout(y, 0.5)
        return F.softmax(y, dim=1) * gain


def test_nodes_of_a_network_of_ones_own():
    net = Branches()
    with pytest.warns(UserWarning, match="not those in evaluation mode"):
        train, evaluate = get_graph_node_names(net)
    assert evaluate == ["x", "gain", "first.0", "first.1", "scale", "mul", "add", "chunk", "getitem", "getitem_1",
                        "sub", "cat", "softmax", "mul_1"]
    assert train == [*evaluate[:-2], "dropout", *evaluate[-2:]]
    body = create_feature_extractor(net, {"mul_1": "out", "cat": "joined"}, suppress_diff_warning=True).eval()
    x = torch.randn(3, 4)
    found = body(x, gain=2.0)
    assert found["out"].equal(net.eval()(x, 2.0)) and found["joined"].shape == (3, 6)
    assert list(body.state_dict()) == ["scale", "shift", "first.0.weight", "first.0.bias"]
    fixed = create_feature_extractor(net, ["mul_1"], suppress_diff_warning=True, concrete_args={"gain": 3.0}).eval()
    assert fixed(x)["mul_1"].equal(net(x, 3.0))


def test_either_mode_has_nodes_of_its_own():
    net = Branches()
    body = create_feature_extractor(
        net, train_return_nodes=["dropout"], eval_return_nodes=["cat"], suppress_diff_warning=True
    )
    x = torch.randn(3, 4)
    assert list(body.train()(x)) == ["dropout"] and list(body.eval()(x)) == ["cat"]
    with pytest.raises(ValueError, match="'dropout' is not present in model"):
        create_feature_extractor(net, ["dropout"], suppress_diff_warning=True)
    for wrong in ({}, {"train_return_nodes": ["cat"]}, {"return_nodes": ["cat"], "eval_return_nodes": ["cat"],
                                                        "train_return_nodes": ["cat"]}):
        with pytest.raises(ValueError, match="Specify either return_nodes"):
            create_feature_extractor(net, **wrong)


class Course(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.course = forward

    def forward(self, x):
        return self.course(self.layer(x))


@pytest.mark.parametrize("course, message", [
    (lambda x: x if x.sum() > 0 else -x, "a condition depends on a tensor's value"),
    (lambda x: torch.stack(list(x)), "how often a loop over a tensor"),
    (lambda x: x[: int(x.max())], "an integer is taken from a tensor"),
    (lambda x: x / len(x), "len"),
    (nn.Linear(2, 2), "Linear is called but is no submodule"),
])
def test_what_depends_on_values_cannot_be_traced(course, message):
    net = Course.__new__(Course)
    nn.Module.__init__(net)
    net.layer = nn.Linear(2, 2)
    net.__dict__["course"] = course  # no submodule, even where it is a layer
    with pytest.raises(TraceError, match=message):
        get_graph_node_names(net)
    assert torch.relu(torch.tensor(-1.0)) == 0 and net.layer(torch.zeros(1, 2)).shape == (1, 2)


def test_a_missing_node_is_named_with_its_namesakes():
    with torch.device("meta"):
        net = models.resnet18()
    with pytest.raises(ValueError, match=r"'layer9.add' is not present.*layer2.1.add"):
        create_feature_extractor(net, ["layer9.add"])


def test_leaves_of_ones_own():
    class Block(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x

    net = nn.Sequential(nn.Linear(2, 2), Block(), nn.ReLU())
    with pytest.raises(TraceError):
        get_graph_node_names(net)
    names, _ = get_graph_node_names(net, tracer_kwargs={"leaf_modules": [Block]})
    assert names == ["input", "0", "1", "2"]
    x = torch.ones(1, 2)
    body = create_feature_extractor(net, ["1"], tracer_kwargs={"leaf_modules": [Block]})
    assert body(x)["1"].equal(net[1](net[0](x)))


def test_intermediate_layers():
    net = models.resnet18().eval()
    body = IntermediateLayerGetter(net, {"layer1": "first", "layer3": "third"})
    assert list(body) == ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"]
    with torch.no_grad():
        found = body(torch.zeros(1, 3, 32, 32))
    assert list(found) == ["first", "third"]
    assert found["first"].shape == (1, 64, 8, 8) and found["third"].shape == (1, 256, 2, 2)
    with pytest.raises(ValueError, match="not present in model"):
        IntermediateLayerGetter(net, {"layer7": "x"})


def test_buffers_belong_to_the_extractor():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.register_buffer("scale", torch.full((3,), 2.0))
            self.register_buffer("shift", torch.ones(3), persistent=False)

        def forward(self, x):
            return torch.relu(self.layer(x) * self.scale + self.shift)

    net = Scaled()
    extractor = create_feature_extractor(net, ["relu"])
    assert get_graph_node_names(net)[0] == ["x", "layer", "mul", "add", "relu"]
    assert sorted(extractor.state_dict()) == ["layer.bias", "layer.weight", "scale"]
    assert [name for name, _ in extractor.named_buffers()] == ["scale", "shift"]
    x = torch.ones(1, 3)
    extractor.load_state_dict({**net.state_dict(), "scale": torch.zeros(3)})
    assert extractor(x)["relu"].tolist() == [[1.0, 1.0, 1.0]]
    assert extractor.half()(x.half())["relu"].dtype == torch.float16
