# What may start in clusters, over an AdmissionReview (OPA, Gatekeeper, conftest; Rego v1). Deny by default: `allow` is
# true when an object was found, every image of it may start, and nothing of it could not be read.
#
# data.registry_pipelines.images    repository at each place -> digest -> the release, and why it may start
# data.registry_pipelines.approved  registries, or beginnings of repositories, of images of others
#
# Rego asks no registry: what a tag names, and a verdict that was taken back since the data were written, it cannot know.
# A rule that denies must not rest on a value that may be undefined: it would not fire. So what is asked is positive.
package registry_pipelines.admission

import rego.v1

default allow := false

allow if {
	readable
	count(deny) == 0
}

allow if {
	input.request.operation == "DELETE"
}

deny contains sprintf("%s [%s]", [found.what, reason(found)]) if {
	some found in wanted
	not may_start(found)
}

deny contains "object [unreadable]" if {
	input.request.operation != "DELETE"
	not readable
}

# Where each kind keeps its pod.
template_kinds := {
	"apps/DaemonSet", "apps/Deployment", "apps/ReplicaSet", "apps/StatefulSet", "batch/Job", "/ReplicationController",
}

kind := sprintf("%s/%s", [object.get(input.request.kind, "group", ""), input.request.kind.kind])

pod_of(content) := content.spec if kind == "/Pod"

pod_of(content) := content.template.spec if kind == "/PodTemplate"

pod_of(content) := content.spec.template.spec if template_kinds[kind]

pod_of(content) := content.spec.jobTemplate.spec.template.spec if kind == "batch/CronJob"

lists := {"containers", "initContainers", "ephemeralContainers"}

readable if {
	pod := pod_of(input.request.object)
	is_object(pod)
	every name in {"containers", "initContainers", "ephemeralContainers", "volumes"} {
		is_list_of_objects(object.get(pod, name, []))
	}
	every name in lists {
		every container in items(pod, name) {
			is_string(container.image)
		}
	}
	every volume in items(pod, "volumes") {
		is_object(object.get(volume, "image", {}))
		is_string(object.get(volume, ["image", "reference"], ""))
	}
}

is_list_of_objects(value) if is_null(value)

is_list_of_objects(value) if {
	is_array(value)
	every item in value {
		is_object(item)
	}
}

items(pod, name) := value if {
	value := object.get(pod, name, [])
	is_array(value)
}

items(pod, name) := [] if is_null(object.get(pod, name, []))

images_of(content) := containers | volumes if {
	pod := pod_of(content)
	containers := {found |
		some name in lists
		some container in items(pod, name)
		title := object.get(container, "name", "")
		found := {"what": sprintf("%s %s: %s", [name, title, container.image]), "key": [name, title], "image": container.image}
	}
	volumes := {found |
		some volume in items(pod, "volumes")
		image := object.get(volume, ["image", "reference"], "")
		image != ""
		title := object.get(volume, "name", "")
		found := {"what": sprintf("volumes %s: %s", [title, image]), "key": ["volumes", title], "image": image}
	}
}

before contains [found.key, found.image] if {
	input.request.operation == "UPDATE"
	is_object(input.request.oldObject)
	some found in images_of(input.request.oldObject)
}

# Of an object that is changed only what it did not have.
wanted contains found if {
	some found in images_of(input.request.object)
	not before[[found.key, found.image]]
}

may_start(found) if {
	image := parsed(found.image)
	not floating(image)
	image.digest != ""
	data.registry_pipelines.images[image.name][image.digest]
}

may_start(found) if {
	image := parsed(found.image)
	not floating(image)
	not data.registry_pipelines.images[image.name]
	some prefix in data.registry_pipelines.approved
	startswith(concat("", [image.name, "/"]), concat("", [prefix, "/"]))
	digest_where_required(image)
}

digest_where_required(image) if image.digest != ""

digest_where_required(_) if data.registry_pipelines.require_digests == false

floating(image) if {
	image.digest == ""
	image.tag in {"", "latest"}
}

default reason(_) := "no-reference"

reason(found) := "latest" if {
	image := parsed(found.image)
	floating(image)
} else := "no-digest" if {
	image := parsed(found.image)
	image.digest == ""
	data.registry_pipelines.images[image.name]
} else := "not-allowed" if {
	image := parsed(found.image)
	data.registry_pipelines.images[image.name]
} else := "not-approved" if {
	image := parsed(found.image)
	is_object(image)
}

# A reference as Docker reads it: what has no dot, no colon and is not localhost is a repository of docker.io.
parsed(text) := {"name": name, "tag": tag, "digest": digest} if {
	regex.match(`^[A-Za-z0-9][A-Za-z0-9._:/-]*(@sha(256:[0-9a-f]{64}|512:[0-9a-f]{128}))?$`, text)
	parts := split(text, "@")
	digest := digest_of(parts)
	segments := split(parts[0], "/")
	last := split(segments[count(segments) - 1], ":")
	tag := tag_of(last, count(segments))
	path := array.concat(array.slice(segments, 0, count(segments) - 1), [last[0]])
	name := concat("/", with_registry(path))
}

digest_of(parts) := parts[1] if count(parts) == 2

digest_of(parts) := "" if count(parts) == 1

tag_of(last, _) := last[1] if count(last) == 2

tag_of(last, _) := "" if count(last) == 1

is_registry(first) if contains(first, ".")

is_registry(first) if contains(first, ":")

is_registry("localhost")

with_registry(path) := array.concat([lower(path[0])], array.slice(path, 1, count(path))) if {
	count(path) > 1
	is_registry(path[0])
	not docker_hub[path[0]]
} else := array.concat(["docker.io"], hub(array.slice(path, 1, count(path)))) if {
	count(path) > 1
	docker_hub[path[0]]
} else := array.concat(["docker.io"], hub(path))

docker_hub := {"docker.io", "index.docker.io"}

hub(path) := ["library", path[0]] if {
	count(path) == 1
} else := path
