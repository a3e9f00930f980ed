// erofs-list IMAGE: what containerd's reader of EROFS sees in an image, a line of JSON for each file.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"

	"github.com/erofs/go-erofs"
)

type line struct {
	Path, Target, Content string
	Mode                  fs.FileMode
	UID, GID, Rdev        uint32
	Size, Mtime           int64
	Nlink                 int
	Xattrs                map[string]string
}

func main() {
	if err := list(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func list(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	image, err := erofs.Open(file)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	return fs.WalkDir(image, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*erofs.Stat)
		found := line{Path: path, Mode: info.Mode(), UID: stat.UID, GID: stat.GID, Rdev: stat.Rdev, Size: info.Size(),
			Mtime: info.ModTime().UnixNano(), Nlink: stat.Nlink, Xattrs: stat.Xattrs}
		switch {
		case info.Mode().IsRegular():
			content, err := fs.ReadFile(image, path)
			if err != nil {
				return err
			}
			found.Content = fmt.Sprintf("%x", sha256.Sum256(content))
		case info.Mode()&fs.ModeSymlink != 0:
			if found.Target, err = image.(fs.ReadLinkFS).ReadLink(path); err != nil {
				return err
			}
		}
		return out.Encode(found)
	})
}
