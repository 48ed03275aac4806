"""What MLflow loads of a slimmable network: each request says its budget, or its deadline.

This file is stored with the version, and runs where that is loaded; it needs mlflow and what the
library needs to load a network: no pipeline.
"""

import time
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
from mlflow.pyfunc import PythonModel

import joslim
from joslim.errors import JoslimError
from joslim.shipping.deadlines import Deadlines
from joslim.supernet.slimmable_model import Configuration, SlimmableModel


class SlimmableNetwork(PythonModel):
    """Images in [0, 1] to logits, the configuration that gave them, and what it took."""

    def load_context(self, context: Any) -> None:
        allow = (context.model_config or {}).get("allow", ())
        model = joslim.load(context.artifacts["network"], allow=allow)
        assert isinstance(model, SlimmableModel)
        self._model = model
        self._deadlines = Deadlines(self._model)

    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:
        images = torch.from_numpy(np.array(model_input, np.float32))
        try:
            found = self._chosen(params or {}, len(images))
        except JoslimError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error
        start = time.perf_counter()
        with torch.inference_mode():
            logits = self._model.at(found.id)(images)
        milliseconds = 1000 * (time.perf_counter() - start)
        self._deadlines.note(found, milliseconds, len(images))
        answer = {"logits": logits.numpy(), "configuration": found.id}
        return {**answer, "milliseconds": round(milliseconds, 3)}

    def _chosen(self, params: dict[str, Any], num_images: int) -> Configuration:
        given = {name: value for name, value in params.items() if value is not None}
        if len(given) != 1:
            raise MlflowException(
                f"params has {' and '.join(given) or 'neither'} of budget and deadline_ms; "
                "expected one of them, as {'budget': 'macs=50%'}. Other parameters, and misspelt "
                "ones, do not reach the model",
                INVALID_PARAMETER_VALUE,
            )
        if "budget" in given:
            return self._model.configuration(given["budget"])
        return self._deadlines.best_within(given["deadline_ms"], num_images)


mlflow.models.set_model(SlimmableNetwork())
