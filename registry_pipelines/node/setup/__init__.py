"""What a node's other programs are told so that ``node serve`` is their snapshotter, as files to review and put there.

Nothing on this machine is changed, and no file holds an account. ``model`` says how the agent is started. Each form
has one file, ``forms`` knows them all.
"""

from registry_pipelines.node.setup.forms import CARRIES, FORMS, SIZED, Form, write
from registry_pipelines.node.setup.model import NAME, Setup, Written

__all__ = ["CARRIES", "FORMS", "NAME", "SIZED", "Form", "Setup", "Written", "write"]
