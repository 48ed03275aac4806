"""The pipeline around `joslim`: stages, Prefect flow, MLflow tracking and registry."""

import os

# OpenMP's default is to spin while it waits. As soon as two processes share the cores (stages side
# by side, anything else on the machine) that makes each of them many times slower. It is read when
# PyTorch is loaded, so it must be set before any stage imports it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
