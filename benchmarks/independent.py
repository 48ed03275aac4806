"""Dense networks trained on their own: the bound for what a supernet's slices can reach."""

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from joslim.config import TrainingConfig
from joslim.data import Images, TrainingStream
from joslim.front import BATCH
from joslim.machine.device import training_device, training_precision
from joslim.machine.memory_format import fast_memory_format
from joslim.machine.mixed_precision import suited_to_autocast
from joslim.supernet.batch_norm import even_batch, recalibrate_batchnorm
from joslim.training.averaging import averaged
from joslim.training.optimizer import learning_rate_at, make_optimizer
from joslim.training.sandwich import sandwich_step
from pipelines.terminal.progress import track


def train_independently(
    model: nn.Module,
    data: Images,
    config: TrainingConfig,
    *,
    num_steps: int,
    calibration_images: int,
    seed: int,
) -> nn.Module:
    """Train ``model`` from fresh weights as the full width of a supernet is trained.

    The same steps, images, schedule, optimiser, precision, averaging and statistics of batch norm;
    no other widths.
    """
    torch.manual_seed(seed)
    reset_parameters(model)
    device, layout = training_device(), fast_memory_format(model)
    model.to(device).to(memory_format=layout).train()
    stream = TrainingStream(
        data.subset(slice(config.refresh_images, None)),
        config.batch_size,
        seed=seed,
        augmentation=config.augmentation,
        device=device,
    )
    optimizer = make_optimizer(model, config)
    average = averaged(model, config.weight_average) if config.weight_average else None
    precision = training_precision(config.precision, device)
    suited = suited_to_autocast(model, device, precision)
    for step in track(range(num_steps), "independent training", num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, num_steps, config)
        images, labels = stream.batch(step)
        optimizer.zero_grad()
        sandwich_step(
            suited,
            images.to(memory_format=layout),
            labels,
            [],
            label_smoothing=config.label_smoothing,
            precision=precision,
        )
        if config.max_gradient_norm is not None:
            clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        if average is not None:
            average.update_parameters(model)
    if average is not None:
        model.load_state_dict(average.module.state_dict())
    calibration = data.subset(slice(calibration_images))
    batches = calibration.batches(even_batch(len(calibration), BATCH), device)
    recalibrate_batchnorm([model], (images for images, _ in batches))
    return model


def reset_parameters(model: nn.Module) -> None:
    """Fresh weights, of the scale that suits the layers' own widths."""
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
