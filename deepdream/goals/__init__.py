"""The goals of a dream: objectives, which it maximizes, and priors, which keep the picture natural."""
