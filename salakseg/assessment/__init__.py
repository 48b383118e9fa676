"""Is the map right, and how many hectares are there? A random sample of it, checked by people."""
