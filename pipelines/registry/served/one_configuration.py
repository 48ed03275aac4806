"""What MLflow loads of a version without weights: a configuration of the slimmable version.

This file is stored with each such version, and runs where that is loaded.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel


class OneConfiguration(PythonModel):
    """Images in [0, 1] to logits, by a slice of a network that is stored once."""

    def load_context(self, context: Any) -> None:
        content = json.loads(Path(context.artifacts["slice"]).read_text())
        self._id, network = content["configuration"], content["slimmable"]
        try:
            self._network = mlflow.pyfunc.load_model(network)
        except (MlflowException, OSError) as error:
            raise MlflowException(
                f"configuration '{self._id}' is a slice of {network}, which cannot be loaded: "
                f"{error}; it has been deleted if it is not there: run `dvc repro` to register "
                "both again"
            ) from error

    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:
        return self._network.predict(model_input, params={"budget": self._id})["logits"]


mlflow.models.set_model(OneConfiguration())
