"""Images on a node, under container runtimes that nobody changed: what containerd asks a snapshotter for.

- ``serving`` is the process that containerd asks, by ``grpc_server`` and its connections;
  ``wire`` has its messages (made by ``messages``) and calls, ``filters`` those of a list
- ``snapshots`` has the files of all snapshots and says what is mounted, ``store`` what is known of them
- ``mapped`` shows what is below a container in a user namespace with its owners
- ``lazy_images`` says what an image must offer to be served before it is fetched
- ``carrier`` says by what they are mounted
- ``images`` finds such images, ``opening`` opens them with the rooms of ``stream.lazy``, and ``served`` mounts one: a
  tree for all its users; ``image_notes`` keeps which they are for the next process, and ``runtime_content`` has what
  the runtime fetched of them already
- ``model`` is the section ``node`` of a configuration; ``judging`` says what may come here at all, and start,
  ``gate`` by whose verdict, and ``gate_layers`` whether a layer is of the image that labels name
- ``examining`` looks for what keeps a node from all this
- ``room`` keeps some free on the disk
- ``draining`` prepares the end of an agent
- ``where`` says where an agent is unless told
- ``setup`` writes what the other programs of a node are told of it, with the disk that ``sizing`` computes from what
  ``image_sizes`` finds
- ``freeing`` deletes what was fetched of an image that was removed
- ``announcing`` knows images before they are pulled, where containerd says nothing but a layer's chain ID
- ``counts`` counts what happens, ``status`` keeps what other commands read of a running agent, and ``metrics`` tells
  Prometheus
"""
