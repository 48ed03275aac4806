"""The pipeline as a Prefect flow; `python -m pipelines.flow` runs or schedules it."""
