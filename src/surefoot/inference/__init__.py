"""What is done with a trained model: score it on labelled data, predict what has no labels."""
