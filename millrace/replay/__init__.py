"""Real arrivals and sizes, driven through the running stack over HTTP."""
