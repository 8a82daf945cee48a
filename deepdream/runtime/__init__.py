"""The resources of the machine: devices, CPU cores, free memory, and the cache on disk."""
