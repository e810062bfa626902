"""The batch size that reaches a loss first, from seconds of a step and gradient noise."""
