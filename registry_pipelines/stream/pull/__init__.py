"""Images fetched whole and unpacked: into a folder, or into a container runtime of this machine.

- ``pulling`` is the whole of a pull into a folder; ``workplace`` is where it works until the result has its name, and
  what a pull that was killed left for the next
- ``fetching`` fetches layers, several at once and large ones over several connections; ``unpacking`` takes one apart
  while it comes, into files named after their place in the tar, and ``entries`` keeps what its headers say
- ``building`` makes the root file system of those files, by the tree that ``lazy.merging`` makes of all layers
- ``archive`` streams an image as an archive, and ``runtimes`` hands that to containerd or Docker

No name out of a layer is a path of this machine before all layers are merged, and then each is a single name in a
directory that was just made: there is nothing that a path with ``..`` or a symbolic link could lead astray.
"""
