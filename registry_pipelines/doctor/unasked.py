"""What the doctor wanted to ask and could not: said in the answer, with the right it takes. No answer is not "no"."""

from __future__ import annotations

from registry_pipelines.doctor.model import Answer
from registry_pipelines.errors import Forbidden, RegistryPipelinesError, Unauthorized


def unasked(question: str, rights: str, error: RegistryPipelinesError) -> Answer:
    """A note. question: as ``whether it is archived``. rights: the actions or roles that asking takes."""
    refused = isinstance(error, Forbidden | Unauthorized)
    do = f"Who runs this needs {rights}" if refused or not error.do else f"{error.do}; asking takes {rights}"
    return Answer(
        cause="not-asked",
        what=f"not known: {question}, for that could not be asked",
        evidence=(error.what,),
        do=do,
        note=True,
    )
