"""Numbers taken with the one loop: nothing here judges, and nothing of the caller's is changed."""
