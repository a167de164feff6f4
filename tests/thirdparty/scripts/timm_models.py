"""timm: `create_model`, a forward pass in evaluation, and one training step, from the same seed as PyTorch."""
# tolerance: 2e-3

import timm
import torch
import torch.nn.functional as F

SIZES = {"resnet18": 64, "mobilenetv3_small_100": 64, "convnext_tiny": 32, "vit_tiny_patch16_224": 224}
for name, size in SIZES.items():
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    images = torch.randn(2, 3, size, size)
    print(name, sum(p.numel() for p in model.parameters()), len(model.state_dict()), model.default_cfg["input_size"])
    model.eval()
    with torch.no_grad():
        print("forward", model(images)[0, :4].tolist(), tuple(model.forward_features(images).shape))
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), torch.tensor([1, 2]))
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    gradients = [p.grad.norm().item() for p in model.parameters()]
    print("losses", losses, "gradients", gradients[0], gradients[-1], max(gradients))
print(timm.list_models("resnet1*")[:3], timm.create_model("resnet18", features_only=True).feature_info.channels())
