"""What this machine can do, and what commonly goes wrong on it."""
