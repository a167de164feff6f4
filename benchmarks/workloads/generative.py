"""A convolutional variational autoencoder and a conditional GAN of perceptrons, both for 28×28 images."""

from __future__ import annotations

from typing import Any

from benchmarks.workloads.work import Work, training_step

CAPACITY, LATENT, VAE_BATCH = 64, 2, 128
GAN_BATCH, NOISE, CLASSES = 64, 100, 10


def variational_autoencoder(torch: Any, part: Any) -> Work:
    """Encoder and decoder of two (transposed) convolutions each; reconstruction and divergence are summed."""
    nn, F = torch.nn, torch.nn.functional
    c, flat = CAPACITY, CAPACITY * 2 * 7 * 7

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, c, kernel_size=4, stride=2, padding=1)
            self.conv2 = nn.Conv2d(c, c * 2, kernel_size=4, stride=2, padding=1)
            self.fc_mu = nn.Linear(flat, LATENT)
            self.fc_logvar = nn.Linear(flat, LATENT)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.conv2(F.relu(self.conv1(x))))
            x = x.reshape(x.size(0), -1)
            return self.fc_mu(x), self.fc_logvar(x)

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(LATENT, flat)
            self.conv2 = nn.ConvTranspose2d(c * 2, c, kernel_size=4, stride=2, padding=1)
            self.conv1 = nn.ConvTranspose2d(c, 1, kernel_size=4, stride=2, padding=1)

        def forward(self, z: Any) -> Any:
            x = self.fc(z)
            x = F.relu(self.conv2(x.view(x.size(0), c * 2, 7, 7)))
            return torch.sigmoid(self.conv1(x))

    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Encoder()
            self.decoder = Decoder()

        def forward(self, x: Any) -> Any:
            mu, logvar = self.encoder(x)
            std = logvar.mul(0.5).exp_()
            z = torch.empty_like(std).normal_().mul(std).add_(mu)
            return self.decoder(z), mu, logvar

    model = Autoencoder()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)

    def loss_of(x: Any) -> Any:
        image, mu, logvar = model(x)
        error = F.binary_cross_entropy(image.reshape(-1, 784), x.reshape(-1, 784), reduction="sum")
        divergence = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return error + 1 * divergence

    batches = [(torch.rand(VAE_BATCH, 1, 28, 28),) for _ in range(2)]
    return Work(training_step(loss_of, optimizer, part), batches, [model, optimizer])


def conditional_gan(torch: Any, part: Any) -> Work:
    """One update of the discriminator, then one of the generator.

    The generated images of the first half are not detached, as beginners' loops have it: their backward pass reaches
    the generator, whose gradients are then thrown away. A compiler may notice.
    """
    nn = torch.nn
    batch = GAN_BATCH

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.label_emb = nn.Embedding(CLASSES, CLASSES)
            sizes = [(NOISE + CLASSES, 256), (256, 512), (512, 1024)]
            hidden = [layer for size in sizes for layer in (nn.Linear(*size), nn.LeakyReLU(0.2, inplace=True))]
            self.model = nn.Sequential(*hidden, nn.Linear(1024, 784), nn.Tanh())

        def forward(self, z: Any, labels: Any) -> Any:
            x = torch.cat([z.view(z.size(0), NOISE), self.label_emb(labels)], 1)
            return self.model(x).view(x.size(0), 28, 28)

    class Discriminator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.label_emb = nn.Embedding(CLASSES, CLASSES)
            sizes = [(784 + CLASSES, 1024), (1024, 512), (512, 256)]
            hidden = [
                layer
                for size in sizes
                for layer in (nn.Linear(*size), nn.LeakyReLU(0.2, inplace=True), nn.Dropout(0.3))
            ]
            self.model = nn.Sequential(*hidden, nn.Linear(256, 1), nn.Sigmoid())

        def forward(self, x: Any, labels: Any) -> Any:
            x = torch.cat([x.view(x.size(0), 784), self.label_emb(labels)], 1)
            return self.model(x).squeeze()

    generator, discriminator = Generator(), Discriminator()
    criterion = nn.BCELoss()
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-4)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-4)

    def judged_fakes() -> Any:
        noise = torch.randn(batch, NOISE)
        labels = torch.randint(0, CLASSES, (batch,))
        return discriminator(generator(noise, labels), labels)

    def d_loss(images: Any, labels: Any) -> Any:
        real = criterion(discriminator(images, labels), torch.ones(batch))
        return real + criterion(judged_fakes(), torch.zeros(batch))

    def g_loss(images: Any, labels: Any) -> Any:
        return criterion(judged_fakes(), torch.ones(batch))

    d_step = training_step(d_loss, d_optimizer, part)
    g_step = training_step(g_loss, g_optimizer, part)

    def step(images: Any, labels: Any) -> Any:
        return d_step(images, labels) + g_step(images, labels)

    batches = [(torch.rand(batch, 28, 28) * 2 - 1, torch.randint(0, CLASSES, (batch,))) for _ in range(2)]
    return Work(step, batches, [generator, discriminator, d_optimizer, g_optimizer])
