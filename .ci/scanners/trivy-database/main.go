// trivy-database FOLDER: writes a database of trivy with the advisories on stdin, as trivy's own library does.
//
// stdin is JSON: {"made": TIME, "advisories": [{"id", "package", "fixed", "severity", "summary", "debian"}]}. debian is the
// release (12) of a package of Debian; without it the package is one of PyPI.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aquasecurity/trivy-db/pkg/db"
	"github.com/aquasecurity/trivy-db/pkg/metadata"
	"github.com/aquasecurity/trivy-db/pkg/types"
	bolt "go.etcd.io/bbolt"
)

type advisory struct {
	ID, Package, Fixed, Severity, Summary, Debian string
}

type input struct {
	Made       time.Time
	Advisories []advisory
}

func main() {
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(folder string) error {
	var told input
	if err := json.NewDecoder(os.Stdin).Decode(&told); err != nil {
		return err
	}
	folder = filepath.Join(folder, "db")
	if err := db.Init(folder); err != nil {
		return err
	}
	if err := (db.Config{}).BatchUpdate(func(tx *bolt.Tx) error {
		for _, each := range told.Advisories {
			if err := put(tx, each); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	return metadata.NewClient(folder).Update(metadata.Metadata{
		Version: db.SchemaVersion, UpdatedAt: told.Made, NextUpdate: told.Made.Add(24 * time.Hour), DownloadedAt: told.Made,
	})
}

func put(tx *bolt.Tx, each advisory) error {
	bucket := "pip::GitHub Security Advisory Pip"
	source := types.DataSource{ID: "ghsa", Name: "GitHub Security Advisory Pip", URL: "https://github.com/advisories"}
	found := types.Advisory{VulnerableVersions: []string{"<" + each.Fixed}, PatchedVersions: []string{each.Fixed}}
	if each.Debian != "" {
		bucket = "debian " + each.Debian
		source = types.DataSource{ID: "debian", Name: "Debian Security Tracker", URL: "https://security-tracker.debian.org"}
		found = types.Advisory{FixedVersion: each.Fixed}
	}
	severity, err := types.NewSeverity(strings.ToUpper(each.Severity))
	if err != nil {
		return err
	}
	config := db.Config{}
	if err := config.PutDataSource(tx, bucket, source); err != nil {
		return err
	}
	if err := config.PutAdvisory(tx, []string{bucket, each.Package}, each.ID, &found); err != nil {
		return err
	}
	if err := config.PutVulnerabilityID(tx, each.ID); err != nil {
		return err
	}
	return config.PutVulnerability(tx, each.ID, types.Vulnerability{
		Title:          each.Summary,
		Severity:       severity.String(),
		VendorSeverity: types.VendorSeverity{source.ID: severity},
	})
}
