// estargz-verify BLOB TOC-DIGEST: an eStargz blob held against its table by the official package; every chunk of every file.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
)

func main() {
	if err := check(os.Args[1], digest.Digest(os.Args[2])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(name string, toc digest.Digest) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	reader, err := estargz.Open(io.NewSectionReader(file, 0, info.Size()))
	if err != nil {
		return err
	}
	verifier, err := reader.VerifyTOC(toc)
	if err != nil {
		return err
	}
	root, ok := reader.Lookup("")
	if !ok {
		return fmt.Errorf("no root")
	}
	files, chunks := 0, 0
	if err := walk(reader, verifier, root, &files, &chunks); err != nil {
		return err
	}
	fmt.Println(files, chunks)
	return nil
}

// A hard link's entry is that of its target.
func walk(reader *estargz.Reader, verifier estargz.TOCEntryVerifier, entry *estargz.TOCEntry, files, chunks *int) error {
	if entry.Type == "reg" && entry.Size > 0 {
		name := entry.Name
		*files++
		content, err := reader.OpenFile(name)
		if err != nil {
			return err
		}
		for offset := int64(0); offset < entry.Size; {
			chunk, ok := reader.ChunkEntryForOffset(name, offset)
			if !ok {
				return fmt.Errorf("%s: no chunk at %d", name, offset)
			}
			against, err := verifier.Verifier(chunk)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if _, err := io.Copy(against, io.NewSectionReader(content, chunk.ChunkOffset, chunk.ChunkSize)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if !against.Verified() {
				return fmt.Errorf("%s: the chunk at %d has another digest", name, offset)
			}
			*chunks++
			offset = chunk.ChunkOffset + chunk.ChunkSize
		}
	}
	var failed error
	entry.ForeachChild(func(_ string, child *estargz.TOCEntry) bool {
		failed = walk(reader, verifier, child, files, chunks)
		return failed == nil
	})
	return failed
}
