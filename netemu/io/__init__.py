"""The only room that touches file descriptors, real time, random numbers or the operating system."""
