"""The shipped models, and building a model from its name or from the user's own factory."""
