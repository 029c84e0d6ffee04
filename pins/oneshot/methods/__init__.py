"""Methods that prune a linear layer from its weights and the Gram matrix of its inputs."""
