"""Public classifiers as slimmable networks: what can move, and whether costs are exact.

`python -m benchmarks.networks` prints the tables of docs/results/networks.md and writes them there:
all of torchvision's networks, and one of each of timm's families if timm is installed. It needs no
weights: networks are built, traced and run on the meta device, torchvision's at 224 × 224 pixels,
timm's at the size of their configuration. `benchmarks.speed`, `benchmarks.latency` and
`benchmarks.rounding` follow, which need an idle machine and also run by themselves.
"""

import importlib.util
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import joslim
from benchmarks import latency, rounding, speed

NUM_WIDTHS = 20
TABLE = Path(__file__).parent.parent / "docs" / "results" / "networks.md"
END = "<!-- end -->"

TIMM = (
    "beit_base_patch16_224", "botnet26t_256", "caformer_s18", "cait_xxs24_224", "coat_tiny",
    "coatnet_nano_rw_224", "convformer_s18", "convmixer_768_32", "convnext_atto",
    "convnextv2_atto", "crossvit_9_240", "cs3darknet_s", "cspnext_tiny", "cspresnet50",
    "darknet53", "davit_tiny", "densenetblur121d", "dla34", "dla60_res2net", "dm_nfnet_f0",
    "dpn68", "eca_resnet33ts", "ecaresnet26t", "edgenext_xx_small", "efficientformer_l1",
    "efficientformerv2_s0", "efficientnet_b0", "efficientnet_b0_gn", "efficientnetv2_rw_t",
    "efficientvit_b0", "efficientvit_m0", "ese_vovnet19b_dw", "eva02_tiny_patch14_224",
    "fasternet_t0", "fastvit_t8", "fbnetv3_b", "focalnet_tiny_srf", "gcvit_xxtiny", "gernet_s",
    "ghostnet_050", "ghostnetv2_100", "gmlp_ti16_224", "halonet26t", "hardcorenas_a",
    "hgnetv2_b0", "hrnet_w18_small", "inception_next_atto", "inception_resnet_v2",
    "inception_v4", "lambda_resnet26t", "lcnet_050", "legacy_xception", "levit_128s",
    "mambaout_femto", "maxvit_tiny_rw_224", "mixer_s32_224", "mixnet_s",
    "mobilenetv4_conv_small", "mobileone_s0", "mobilevit_xxs", "mobilevitv2_050",
    "nasnetalarge", "nextvit_small", "nf_regnet_b0", "pit_ti_224", "poolformer_s12",
    "pvt_v2_b0", "rdnet_tiny", "regnety_002", "regnetz_005", "repghostnet_050", "repvgg_a0",
    "repvit_m0_9", "res2net50_14w_8s", "resmlp_12_224", "resnest50d_1s4x24d", "resnet50_gn",
    "resnetaa34d", "resnetv2_50x1_bit", "rexnet_100", "selecsls42b", "senet154", "shvit_s1",
    "skresnet18", "starnet_s1", "swiftformer_xs", "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256", "tf_efficientnetv2_b0", "tiny_vit_5m_224", "tinynet_e",
    "tnt_s_patch16_224", "tresnet_m", "twins_svt_small", "vgg11_bn", "visformer_tiny",
    "vit_relpos_small_patch16_224", "vit_tiny_patch16_224", "volo_d1_224", "xception41",
    "xcit_nano_12_p16_224",
)  # fmt: skip
"""One small network of each of timm's families whose channels the trace follows."""


class _ConcreteSizes(TorchFunctionMode):
    """Lets builders compute channel counts with tensors, unreadable on meta."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.arange, torch.tensor):
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


def zoo() -> list[str]:
    """The names of torchvision's classifiers."""
    return torchvision.models.list_models(module=torchvision.models)


def without_weights(name: str, source: str = "torchvision") -> tuple[nn.Module, Tensor]:
    """A classifier on the meta device, in eval mode, and an image for it."""
    with torch.device("meta"), _ConcreteSizes():
        model = joslim.networks.create(f"{source}:{name}", num_classes=10)
    shape = model.pretrained_cfg["input_size"] if source == "timm" else (3, 224, 224)
    return model.to("meta").eval(), torch.zeros(1, *shape, device="meta")


def counted_macs(model: nn.Module, image: Tensor) -> int:
    """Half of what PyTorch counts; attention runs as the matrix products that it can count."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(image)
    return counter.get_total_flops() // 2


@dataclass(frozen=True)
class Row:
    """What was found about one network.

    Attributes:
        name: In torchvision or timm.
        macs: Of the full network.
        groups: Channel groups that can move, and frozen ones.
        movable: Fraction of the MACs that some width can shrink.
        exact: How many of `NUM_WIDTHS` random width configurations have exact costs.
        seconds: To trace the network and check its slices, on one core.
    """

    name: str
    macs: int
    groups: tuple[int, int]
    movable: float
    exact: int
    seconds: float


def measure(name: str, source: str) -> Row:
    """Trace a network and compare its costs with counts on extracted sub-networks."""
    model, image = without_weights(name, source)
    start = time.perf_counter()
    network = joslim.slimmable(model, image).eval()
    seconds = time.perf_counter() - start
    macs, params = joslim.costs.macs(network), joslim.costs.params(network)
    generator = torch.Generator().manual_seed(0)
    exact = 0
    for _ in range(NUM_WIDTHS):
        widths = network.space.random(generator)
        dense = network.extract(widths)
        counts = counted_macs(dense, image), sum(p.numel() for p in dense.parameters())
        exact += counts == (macs(widths), params(widths))
    frozen = sum(group.frozen is not None for group in network.space.groups)
    return Row(
        name=name,
        macs=macs.full,
        groups=(len(network.space) - frozen, frozen),
        movable=joslim.costs.movable_fraction(network),
        exact=exact,
        seconds=seconds,
    )


def table(rows: list[Row]) -> Iterator[str]:
    """The rows in Markdown."""
    yield "| network | MACs | groups | frozen | MACs that can move | exact costs | seconds |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for row in rows:
        moving, frozen = row.groups
        yield (
            f"| `{row.name}` | {row.macs / 1e9:.2f} G | {moving} | {frozen} | {row.movable:.1%} "
            f"| {row.exact}/{NUM_WIDTHS} | {row.seconds:.1f} |"
        )


def write(names: Sequence[str], source: str) -> None:
    """Measure networks of ``source`` and replace their table in the docs."""
    rows = []
    for name in names:
        rows.append(measure(name, source))
        print(list(table(rows))[-1], flush=True)
    start = f"<!-- benchmarks.networks {source} -->"
    before, _, rest = TABLE.read_text().partition(start)
    lines = "\n".join(table(rows))
    TABLE.write_text(f"{before}{start}\n{lines}\n{END}{rest.partition(END)[2]}")


def main() -> None:
    """Measure all networks, then memory, speed, latency and rounding."""
    write(zoo(), "torchvision")
    if importlib.util.find_spec("timm"):
        write(TIMM, "timm")
    for part in (speed, latency, rounding):
        print(f"\n{part.__doc__.partition(chr(10))[0]}\n")
        part.main()


if __name__ == "__main__":
    main()
