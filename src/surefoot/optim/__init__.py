"""Stochastic gradient descent: schedules and presets (functions of the step), the update rule (a function of
tensors), the plan (a recipe tabulated over steps), and the same rules as a `torch.optim.Optimizer`.

Nothing is imported here: `schedules`, `presets` and `plan` need only NumPy, and stay quick to import.
"""
