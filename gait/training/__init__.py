"""Training from one YAML: configuration, batches, steps, checkpoints, logs, and the loop."""
