"""Skills: instructions for particular kinds of work, in folders that the model reads on demand."""
