"""One model made of several: what a recipe says, which tensors it takes, how they are mixed, and the folder of it."""
