"""Running the steps of a dream: step graphs, sessions, tiles of large pictures, and memory estimates."""
