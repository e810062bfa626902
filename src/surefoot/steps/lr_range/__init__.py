"""Step 3: between which learning rates the loss drops within about 100 steps."""
