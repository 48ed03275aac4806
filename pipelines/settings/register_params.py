"""The section ``register`` of ``params.yaml``, read without PyTorch: its stage runs each time."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from joslim.errors import ConfigError

Require = Literal["not-worse", "nothing"]

_NAME = re.compile(r"[^\W_][\w.-]{0,199}")


class RegisterParams(BaseModel):
    """When a run's models take over from those registered before, and what they are called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    require: Require = "not-worse"
    model_name: str | None = None

    @field_validator("model_name")
    @classmethod
    def _is_a_name_for_mlflow(cls, name: str | None) -> str | None:
        """Narrower than MLflow's own rule: it stands in ``models:/NAME@ALIAS`` and in searches."""
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(
                f"register.model_name is {name!r}; expected letters, digits, '-', '_' and '.', "
                "the first a letter or a digit, at most 200 in all; null: by network and data"
            )
        return name


def register_params(section: Any) -> RegisterParams:
    """The section as YAML gives it.

    Raises:
        ConfigError: If a value is not allowed.
    """
    try:
        return RegisterParams.model_validate(section)
    except ValidationError as error:
        found = error.errors()[0]
        key = ".".join(["register", *map(str, found["loc"])])
        raise ConfigError(f"{key} is {found['input']!r}; {found['msg']}") from error
