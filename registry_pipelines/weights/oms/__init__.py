"""Signatures of models in the OpenSSF's form (OMS 1.0): one signed list of all files, for whatever keys are believed.

``statement`` is the list and how it is held against files, ``bundles`` signs and believes it, ``folders`` does both for
a folder with its ``model.sig``, ``attached`` for weights in a registry, whose signatures refer to their manifest, and
``images`` says of weights that are a plain image what their layers have. The
command line, ``chain`` and the gate import these.
"""
