"""The processes of Bauta: API, worker, keeper, and what supervises them."""
