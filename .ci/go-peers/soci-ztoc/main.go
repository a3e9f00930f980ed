// soci-ztoc LAYER ZTOC [SPAN]: the ztoc of a gzip or tar layer, as the official builder makes it.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/awslabs/soci-snapshotter/ztoc"
)

func run(layer, target string, span int64) error {
	built, err := ztoc.NewBuilder("AWS SOCI CLI v0.2").BuildZtoc(layer, span)
	if err != nil {
		return err
	}
	reader, _, err := ztoc.Marshal(built)
	if err != nil {
		return err
	}
	file, err := os.Create(target)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, reader); err != nil {
		return err
	}
	return file.Close()
}

func main() {
	span := int64(1 << 22)
	if len(os.Args) > 3 {
		span, _ = strconv.ParseInt(os.Args[3], 10, 64)
	}
	if err := run(os.Args[1], os.Args[2], span); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
