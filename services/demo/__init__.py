"""``make demo``: the whole service, shown on photos in half a minute."""
