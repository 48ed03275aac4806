FROM python:3.11-slim

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 joslim \
    && install --directory --owner=joslim /joslim

WORKDIR /joslim
USER 1000
ENV PATH=/home/joslim/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DVC_NO_ANALYTICS=1 \
    DO_NOT_TRACK=1 \
    PREFECT_HOME=/joslim/.joslim/prefect \
    MLFLOW_TRACKING_URI=sqlite:////joslim/mlruns/mlflow.db

# Settings for pip, such as an index with PyTorch's CPU builds:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=… .
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL

# The environment changes rarely, so it comes before the code.
COPY --chown=joslim requirements.lock ./
RUN python -m venv /home/joslim/venv \
    && pip install --no-cache-dir --requirement requirements.lock

COPY --chown=joslim . ./
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && rm -rf .dvc/tmp \
    && dvc config --local core.no_scm true \
    && mkdir -p data models reports mlruns .joslim .dvc/cache

# Data, models, reports, MLflow's database and files, checkpoints and DVC's cache outlive the
# container. To use an MLflow server: docker run --env MLFLOW_TRACKING_URI=…
VOLUME ["/joslim/data", "/joslim/models", "/joslim/reports", "/joslim/mlruns", "/joslim/.joslim", "/joslim/.dvc/cache"]

CMD ["python", "-m", "pipelines.flow"]
