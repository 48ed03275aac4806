"""Reading ``params.yaml`` and checking it, before anything runs."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from joslim.config import TrainingConfig
from joslim.errors import ConfigError
from pipelines.settings import paths
from pipelines.settings.params import ExecutionParams, Params


def load_params(path: Path = paths.PARAMS) -> Params:
    """Read and check ``params.yaml``, also against the network that it names.

    Raises:
        ConfigError: Naming the key, its value and what is allowed.
    """
    params = read_params(path)
    # PyTorch takes seconds to import: what is wrong without it is told before.
    from pipelines.settings.network import plan

    plan(params, path)
    return params


def read_params(path: Path = paths.PARAMS) -> Params:
    """Read ``params.yaml`` and check every value by itself; errors as of `load_params`."""
    try:
        content = yaml.load(path.read_text(), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if content is None:
        sections = ", ".join(field.alias or name for name, field in Params.model_fields.items())
        raise ConfigError(f"{path} is empty; expected the sections {sections}")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_sentences(error)}") from error
    try:
        params.limits()
        for name in params.budgets:
            params.budget(name)
        if params.training.lighting and params.data.channels != 3:
            raise ConfigError(
                f"training.lighting is {params.training.lighting:g}, but data.channels is "
                f"{params.data.channels}; expected 0, as it changes colours of 3 channels"
            )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return params


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML's readers would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if (first := lines.get(name)) is not None:
                where = f"line {line}" if first == line else f"lines {first} and {line}"
                raise yaml.YAMLError(f"{name} is given twice, in {where}; expected it once")
            lines[name] = line
        return super().construct_mapping(node, deep)


RENAMED = {"training.num_proposals": "training.proposals_per_step"}
"""Keys of version 0.1 that have another name now."""


def _sentences(error: ValidationError) -> str:
    """One line each; a key that is missing may be one that is misspelt."""
    found = error.errors()
    missing = [_key(e) for e in found if e["type"] == "missing"]
    unknown = [_key(e) for e in found if e["type"] == "extra_forbidden"]
    optional = [f"training.{name}" for name in TrainingConfig.model_fields]
    moved = [f"execution.{name}" for name in ExecutionParams.model_fields]
    known = {_name(key): key for key in (*optional, *moved, *missing)}
    meant = {
        key: known[match[0]]
        for key in unknown
        if (match := get_close_matches(_name(key), known, n=1))
    }
    meant |= {key: RENAMED[key] for key in unknown if key in RENAMED}
    told = [e for e in found if e["type"] != "missing" or _key(e) not in meant.values()]
    return "\n".join(
        _sentence(e) + (f"; did you mean {meant[_key(e)]}?" if _key(e) in meant else "")
        for e in told
    )


def _key(error: Any) -> str:
    return ".".join(str(part) for part in error["loc"])


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _sentence(error: Any) -> str:
    key = _key(error)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"].startswith("string_") and "[key]" in error["loc"]:
        return (
            f"{error['loc'][0]}: a name is '{error['input']}'; expected at most 30 lower-case "
            "letters, digits and hyphens, the first a letter"
        )
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        return f"{key} is not a known key"
    if error["type"] in ("dict_type", "model_type"):
        return (
            f"{key or 'the file'} is {error['input']!r}; expected keys with values, as key: value"
        )
    if error["type"] == "value_error":
        return message if message.startswith(key) else f"{key}: {message}"
    return f"{key} is {error['input']!r}; {message[0].lower()}{message[1:]}"
