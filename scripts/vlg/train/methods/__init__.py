"""Ways to fine-tune, one file each: `vlg.train.method` says what a file must bring."""
