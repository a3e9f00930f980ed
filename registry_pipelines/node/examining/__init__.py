"""What keeps a node from serving images before they are fetched: looked at, each with what to do (`node doctor`).

- ``model`` is one finding
- ``machine`` looks at this machine: user, kernel, disks, clock
- ``agent`` at the agent: whether it runs, answers, and who else is on its socket
- ``runtime`` at containerd: its version and plugins by its own socket, its configuration as it says it itself
"""
