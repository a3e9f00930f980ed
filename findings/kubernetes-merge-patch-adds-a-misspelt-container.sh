#!/usr/bin/env bash
# Guess:   a strategic merge patch that names a container which the workload does not have is refused, as `kubectl set image`
#          refuses it ("unable to find container named").
# Happens: it is no error. A container of that name is added, in front of the others, with the image of the patch and nothing
#          else: a misspelt name starts the new image beside the old one, and every pod is ready. Whoever patches an image
#          reads first which containers there are.
# Version: kubectl 1.20.2 (Debian 12's kubernetes-client), whose merge is the API server's own package
#          (k8s.io/apimachinery/pkg/util/strategicpatch). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=300 download -qq kubernetes-client
dpkg-deb -x kubernetes-client_*.deb root
kubectl=root/usr/bin/kubectl
cat >web.json <<'JSON'
{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
 "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "proxy", "image": "proxy:1"},
 {"name": "app", "image": "app:1", "ports": [{"containerPort": 80}]}]}}}}
JSON
containers() {
  "$kubectl" patch --local --type strategic -f web.json -o jsonpath='{range .spec.template.spec.containers[*]}{.name}={.image} {end}' \
    -p "{\"spec\": {\"template\": {\"spec\": {\"containers\": [{\"name\": \"$1\", \"image\": \"app:2\"}]}}}}"
}
right=$(containers app) wrong=$(containers ap)
echo "named right: $right"
echo "misspelt:    $wrong"
[ "$right" = "proxy=proxy:1 app=app:2 " ]
[ "$wrong" = "ap=app:2 proxy=proxy:1 app=app:1 " ]
if "$kubectl" set image --local -f web.json ap=app:2 -o name 2>said; then echo "set image takes it now"; exit 1; fi
grep -q "unable to find container named" said
