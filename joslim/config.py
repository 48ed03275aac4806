"""How a supernet is trained, in numbers; read and checked without PyTorch."""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from joslim.data import Augmentation

Divergence = Literal["kl", "alpha"]
"""From a teacher's predictions: Kullback and Leibler's, or AlphaNet's adaptive α-divergence."""


class TrainingConfig(BaseModel):
    """How the supernet is trained.

    The defaults are those that were measured for 28 × 28 images on a small ResNet, in four and
    five epochs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(5, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(128, ge=2)
    """Images per optimiser step, of all processes together."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of convolutions and matrix products; ``auto`` takes bfloat16 where it is native."""
    learning_rate: float = Field(0.3, gt=0)
    """Peak learning rate."""
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of all steps in which the learning rate rises to its peak; it then falls to 0."""
    learning_rate_decay: Literal["cosine", "linear"] = "cosine"
    """Its way from the peak to 0."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Nesterov momentum."""
    weight_decay: float = Field(0.0005, ge=0)
    """L2 penalty per step, not applied to biases and batch norm."""
    max_gradient_norm: float | None = Field(None, gt=0)
    """Longer gradients, over all weights, are scaled down to this length; None: none are."""
    weight_average: float = Field(0.97, ge=0, lt=1)
    """Share of the weights' moving average that a step keeps; 0 averages nothing. The average is
    what is searched, saved and served."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Probability spread over all classes in the labels."""
    subnetwork_weight: float = Field(0.5, gt=0)
    """Weight of each sub-network's gradient beside the full network's, which is 1."""
    distillation_weight: float = Field(0.5, ge=0, le=1)
    """Share of the full network's predictions in the sub-networks' loss."""
    distillation_divergence: Divergence = "kl"
    """``kl``, or ``alpha`` for the adaptive α-divergence."""
    distillation_teacher: Literal["full", "average"] = "full"
    """The full network, or its moving average."""
    crop_padding: int = Field(0, ge=0)
    """Images are shifted by up to this many pixels."""
    flip: bool = True
    """Whether half of the images are mirrored."""
    crop_scale: tuple[float, float] | None = None
    """Least and most area of a random crop, as fractions of the image; None: no such crop."""
    color_jitter: float = Field(0.0, ge=0, le=1)
    """Most relative change of brightness, contrast and saturation."""
    lighting: float = Field(0.0, ge=0, le=1)
    """Standard deviation of the colour that is added to an image, along the principal components of
    ImageNet's colours; needs 3 channels."""
    proposals_per_step: int = Field(2, ge=1)
    """Width configurations trained per step beside the full and the smallest network."""
    proposals_per_round: int = Field(16, ge=1)
    """Width configurations proposed at a time; the steps until the next round take turns."""
    steps_per_proposal: int = Field(60, ge=1)
    """Steps between two rounds of proposals (the paper's tau); strategies that learn nothing while
    training draw at every step."""
    refresh_images: int = Field(512, ge=2)
    """Training images held out to measure width configurations by."""
    refresh_fraction: float = Field(0.05, gt=0, le=1)
    """Share of the training's multiply-accumulates that this may take; at least four are measured
    a round."""

    @property
    def augmentation(self) -> "Augmentation":
        """What is done to training images."""
        from joslim.data import Augmentation

        return Augmentation(
            self.crop_padding, self.flip, self.crop_scale, self.color_jitter, self.lighting
        )

    @field_validator("crop_scale")
    @classmethod
    def _scale_is_a_range(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"[{scale[0]:g}, {scale[1]:g}]; expected 0 < least <= most <= 1")
        return scale

    @model_validator(mode="after")
    def _teacher_exists(self) -> "TrainingConfig":
        if self.distillation_teacher == "average" and self.weight_average == 0:
            raise ValueError(
                "distillation_teacher is average, but weight_average is 0, which averages "
                "nothing; expected a weight_average such as 0.99"
            )
        return self

    @model_validator(mode="after")
    def _a_round_fills_a_step(self) -> "TrainingConfig":
        if self.proposals_per_round < self.proposals_per_step:
            raise ValueError(
                f"proposals_per_round is {self.proposals_per_round}; expected at least "
                f"proposals_per_step, {self.proposals_per_step}"
            )
        return self
