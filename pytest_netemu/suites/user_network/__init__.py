"""The user-network wall: a guest on one side, a user-mode network (ours, libslirp, passt, yours) on the other."""
