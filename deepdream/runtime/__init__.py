"""What the machine offers: the device that graphs run on, memory, the cache on disk."""
