"""Step 1: the loss before training is that of chance."""
