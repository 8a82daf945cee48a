"""How the steps of a dream run: their graphs, the sessions of these, tiles of large pictures, memory."""
