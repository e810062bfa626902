"""Pictures and pages made from plain data, on any machine: nothing here needs torch or a training run."""
