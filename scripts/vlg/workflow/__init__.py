"""What runs jobs: command lines, code hashes, environment, locks, GPUs, processes."""
