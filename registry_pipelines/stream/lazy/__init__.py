"""Images that are there before they are fetched: every byte comes when it is first read, and is verified before.

- ``image`` is what a node starts, ``opened`` all of the following for one of them
- ``tables`` finds what says where the files of each layer are (a ``layer_table``: of eStargz by ``chunked``, of SOCI by
  ``signed_ztocs``, of ``whole_layers`` for want of these), and ``merging`` makes one ``tree`` of them; both are
  ``kept``, as is what the registry said of the image (``kept_registry``)
- ``blocks`` keeps what was fetched: one sparse file for each layer (``lazy_layer``), for all images and processes of
  the node
- ``pieces`` says what can be fetched and verified by itself: spans, chunks, whole layers
- ``filling`` fetches it: what somebody waits for first, the rest in the background, as ``jobs``
- ``fuse`` serves a ``fuse_tree`` of files to the kernel, in the messages of ``fuse_wire``, and large ones by
  ``passthrough``; of files that are read from end to end ``sequences`` knows what comes next;
  ``mounting`` mounts it, ``serving`` does both, and ``notes`` tells other processes of it
- ``owners`` shows a tree with other owners, for containers in user namespaces
- a mount of an agent outlives it: ``keeper`` is the process that has its device meanwhile, ``keeping`` how an agent
  talks to it (``sockets``), ``fuse_memory`` what the next server must know, ``fdstore`` the same at systemd
- ``pages_ahead`` gives the kernel what a hot pack brings before it asks; of EROFS ``mount_ahead`` has it read that
- ``erofs`` writes a tree as metadata of EROFS, in the parts of ``erofs_wire``, for kernels that read it from a file;
  ``backing`` keeps such files and fills them from the layers, by ``sharing`` blocks of the disk where it can;
  ``carriers`` chooses between FUSE and these (``erofs_carriers``)
- ``fanotify`` answers who reads such a file, ``watch_proof`` proves that the kernel asks at all; ``holder`` is
  the process that answers when that one is gone, ``guard`` how it is talked to; it and the keeper are
  ``twinned``; ``answerer`` is one that answers beside it what can be answered at once, ``answering`` its other end
- ``probing`` tries which of all this the kernel can carry (``probing_fuse`` is the tree for that)
- ``running`` starts a program of an image, with ``program_root`` as its root; who is not root does it in a user
  namespace (``namespaces``), and what nobody knows yet runs in a ``sandbox``, without the calls of ``seccomp``; ``gpu``
  finds what of the machine's driver a program sees
"""
