"""Ways to draw or redraw, one file each: `vlg.sample.arm` says what a file must bring."""
