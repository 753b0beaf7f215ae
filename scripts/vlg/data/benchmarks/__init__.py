"""Published prompts, a file each (`vlg.data.benchmark`)."""
