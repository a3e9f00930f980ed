"""Make a release: images from Python wheels and an application folder, without a container daemon.

Start at ``builder`` (what goes in and out) and ``layers`` (the builder). One wheel becomes one layer, made from the
wheel's own deflate streams: ``splice`` joins them, ``wheel`` checks them, ``install`` says where files go.
"""
