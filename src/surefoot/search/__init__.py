"""Steps 4 to 7 as one search: which runs to train next, what they say, and which recipe to choose."""
