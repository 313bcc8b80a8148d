"""The kill campaign: SIGKILL at every step of a commit and at random moments, hundreds of times."""
