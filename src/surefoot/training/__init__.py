"""The one loop that every training goes through, its state, and its checkpoints."""
