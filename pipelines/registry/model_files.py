"""The files of a registered model, as MLflow loads them."""

import json
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joslim
from pipelines import tracking
from pipelines.registry import served
from pipelines.registry.lookup import SLIMMABLE, Entry
from pipelines.registry.records import RegistryError
from pipelines.registry.submissions import Submission
from pipelines.settings import paths
from pipelines.settings.own_code import own_code

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

    from joslim.supernet.slimmable_model import SlimmableModel

NETWORK = "network"
"""Name of the slimmable network's folder among a model's artifacts."""

SERVED = Path(served.__file__).parent


def log_model(
    submission: Submission, spec: Mapping[str, Any], slimmable: str | None, tags: Mapping[str, str]
) -> str:
    """Log a model without its numbers.

    Args:
        submission: What is logged.
        spec: The network's, as in ``spec.json``.
        slimmable: MLflow's id of the network that a configuration is a slice of.
        tags: Of the model.

    Returns:
        MLflow's id of it.
    """
    name = submission.alias or submission.id
    if submission.is_slice:
        content = {"slimmable": f"models:/{slimmable}", "configuration": submission.id}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "slice.json")
            file.write_text(json.dumps(content) + "\n")
            return _log_code("one_configuration.py", name, spec, tags, {"slice": str(file)})
    if submission.kind == SLIMMABLE:
        artifacts = {NETWORK: str(submission.folder)}
        library = [str(Path(joslim.__file__).parent)]
        return _log_code("slimmable_network.py", name, spec, tags, artifacts, library)
    return _log_program(submission.folder, name, spec, tags)


def _log_code(
    script: str,
    name: str,
    spec: Mapping[str, Any],
    tags: Mapping[str, str],
    artifacts: Mapping[str, str],
    code_paths: Sequence[str] = (),
) -> str:
    """Log a model that a script of `served` loads; one with code of its own takes a budget."""
    import mlflow

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*An input example was not provided")
        info = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(SERVED / script),
            artifacts=dict(artifacts),
            # Whoever loads this runs code of the registry, so that it may say what is allowed.
            model_config={"allow": list(own_code())},
            code_paths=list(code_paths) or None,
            signature=_signature(spec, takes_budget=bool(code_paths)),
            pip_requirements=_requirements(spec["network"]),
            tags=dict(tags),
        )
    return str(info.model_id)


def download(entry: Entry) -> Path:
    """The files of a version, on this machine; of a slice those of its slimmable network.

    Raises:
        RegistryError: If MLflow cannot bring them.
    """
    tracking.configure()
    import mlflow
    from mlflow.exceptions import MlflowException

    slimmable = entry.logged.tags.get(SLIMMABLE)
    source = f"models:/{slimmable}" if slimmable else entry.uri
    try:
        return Path(mlflow.artifacts.download_artifacts(source))
    except (MlflowException, OSError) as error:
        raise RegistryError(f"the files of {source} cannot be had: {error}") from error


def load_network(folder: Path) -> "SlimmableModel":
    """The network in the files of a slimmable version; own code if ``params.yaml`` names it."""
    from joslim.supernet.artifact import load_slimmable

    allow = own_code()
    if allow:  # which may be a file of the checkout
        sys.path.append(str(paths.root()))
    return load_slimmable(folder / "artifacts" / paths.SLIMMABLE.name, allow=allow)


def _log_program(folder: Path, name: str, spec: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Log a dense network as a `torch.export` program, which needs no code of this project."""
    import mlflow
    import numpy as np

    from joslim.supernet.storage import load_subnetwork

    info = mlflow.pytorch.log_model(
        load_subnetwork(folder, allow=own_code()).model,
        name=name,
        signature=_signature(spec),
        # A batch of one would make the exported graph a graph for batches of one.
        input_example=np.zeros((2, *_image(spec)), np.float32),
        pip_requirements=[f"torch=={installed_version('torch')}"],
        tags=dict(tags),
    )
    return str(info.model_id)


def _image(spec: Mapping[str, Any]) -> tuple[int, int, int]:
    return spec["in_channels"], spec["image_size"], spec["image_size"]


def _signature(spec: Mapping[str, Any], *, takes_budget: bool = False) -> "ModelSignature":
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    float32 = np.dtype("float32")
    logits = TensorSpec(float32, (-1, spec["num_classes"]), "logits" if takes_budget else None)
    inputs = Schema([TensorSpec(float32, (-1, *_image(spec)))])
    if not takes_budget:
        return ModelSignature(inputs, Schema([logits]))
    params = [ParamSpec("budget", "string", None), ParamSpec("deadline_ms", "double", None)]
    served_by = TensorSpec(np.dtype("str"), (-1,), "configuration")
    took = TensorSpec(np.dtype("float64"), (-1,), "milliseconds")
    return ModelSignature(inputs, Schema([logits, served_by, took]), ParamSchema(params))


def _requirements(network: str) -> list[str]:
    """What loading a network of that name needs; MLflow adds itself."""
    names = ["torch", "torchvision", "safetensors", "numpy", "pydantic"]
    names += ["timm"] if network.startswith("timm:") else []
    return [f"{name}=={installed_version(name)}" for name in names]
