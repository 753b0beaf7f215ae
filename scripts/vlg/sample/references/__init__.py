"""What scores are held against, one file each: `vlg.sample.reference` says what it must bring."""
