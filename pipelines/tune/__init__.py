"""The search for hyperparameters of training; `python -m pipelines.tune` runs it."""
