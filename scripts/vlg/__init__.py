"""vlg: the package behind the scripts. It is found beside them, so nothing has to be installed."""
