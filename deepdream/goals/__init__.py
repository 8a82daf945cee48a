"""What a dream is after: objectives, which it makes larger, and priors, which keep the picture natural."""
