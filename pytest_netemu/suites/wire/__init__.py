"""The wire wall: a guest's stack (in-process, Linux, lwIP, yours) on one side, a frame-level tester on the other."""
