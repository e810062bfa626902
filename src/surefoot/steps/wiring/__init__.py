"""Step 0: do data, model, loss and training step fit together at all."""
