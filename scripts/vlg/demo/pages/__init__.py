"""What a browser sees: a module for each tab, HTML that they share, the API."""
