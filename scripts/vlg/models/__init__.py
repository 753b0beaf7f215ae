"""Model folders and loading: the base's families, the guide, CLIPs, devices."""
