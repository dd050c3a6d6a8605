"""Training by gradients: the network, the loss, the optimisers, checkpoints, and the one loop that runs them all."""
