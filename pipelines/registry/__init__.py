"""MLflow's registry of models: registration, lookup, export."""
