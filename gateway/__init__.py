"""The gateway: takes public requests, finds a worker for each, and relays what it generates."""
