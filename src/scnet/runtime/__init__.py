"""The process and the machine: devices, memory, other processes, files on disk."""
