"""Tell somebody that a run's step failed for good. Denials are told by the library, where they are decided."""

import dagster as dg

from dagster_project.partitions import PARTITION_TAG, whole_key
from registry_pipelines.errors import RegistryPipelinesError


@dg.failure_hook(required_resource_keys={"chain"})
def notified(context: dg.HookContext) -> None:
    """After the last retry of a step of the release job: tells whom the configuration names in ``notify``."""
    failure = context.op_exception
    error = failure if isinstance(failure, RegistryPipelinesError) else getattr(failure, "__cause__", None)
    run = context.instance.get_run_by_id(context.run_id)
    if run is None or not isinstance(error, RegistryPipelinesError):
        return
    key, chain = run.tags[PARTITION_TAG], context.resources.chain
    release = chain.known_keys().get(key) or whole_key(key)
    if release is None:  # the step failed because nobody knows the key: there is no release to tell of
        return
    chain.notify_failed(release, context.step_key, error)
    for problem in getattr(error, "__notes__", ()):
        context.log.warning("%s", problem)
