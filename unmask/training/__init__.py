"""Training: batches, optimisers and the Lightning module; one path for one run or many."""
