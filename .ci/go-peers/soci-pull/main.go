// soci-pull SOCKET REFERENCE: pulls an image from a plain HTTP registry with the SOCI snapshotter, as a node does.
// (containerd's own ctr passes a snapshotter none of the labels by which it finds layers and their index.)
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/awslabs/soci-snapshotter/fs/source"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
)

func run(socket, reference string) error {
	client, err := containerd.New(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	plain := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts))
	_, err = client.Pull(
		namespaces.WithNamespace(context.Background(), "default"),
		reference,
		containerd.WithPullUnpack,
		containerd.WithResolver(docker.NewResolver(docker.ResolverOptions{Hosts: plain})),
		containerd.WithPullSnapshotter("soci"),
		containerd.WithImageHandlerWrapper(
			source.AppendDefaultLabelsHandlerWrapper("", snapshotters.AppendInfoHandlerWrapper(reference))),
	)
	return err
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
