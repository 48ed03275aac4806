"""Joint training of shared weights and widths."""

from joslim.config import TrainingConfig as TrainingConfig
from joslim.training.doubts import doubt_of_loss as doubt_of_loss
from joslim.training.doubts import doubt_of_search as doubt_of_search
from joslim.training.refresh import refresh_history as refresh_history
from joslim.training.sandwich import sandwich_step as sandwich_step
from joslim.training.threads import use_suitable_threads as use_suitable_threads
from joslim.training.trainer import Trainer as Trainer
from joslim.training.training_step import TrainingStep as TrainingStep
