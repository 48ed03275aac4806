"""A network whose widths nobody has balanced: as many channels at every resolution."""

from torch import nn

CHANNELS = 32


def plain(num_classes: int, in_channels: int) -> nn.Module:
    """Six convolutions of equal width on three resolutions; the first two cost most."""
    layers: list[nn.Module] = []
    for i in range(6):
        given = CHANNELS if i else in_channels
        convolution = nn.Conv2d(given, CHANNELS, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(CHANNELS), nn.ReLU()]
        if i in (1, 3):
            layers.append(nn.MaxPool2d(2))
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, num_classes)
    return nn.Sequential(*layers, *head)
