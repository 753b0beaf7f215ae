"""Fine-tuning: the loop, its state and log, the methods."""
