"""Step 2: a model that is to learn anything must be able to learn a small sample by heart."""
