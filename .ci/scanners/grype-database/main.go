// grype-database FOLDER: writes a database of grype with the advisories on stdin, as grype's own library does.
//
// stdin is the JSON that trivy-database reads.
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v6 "github.com/anchore/grype/grype/db/v6"
	"github.com/spf13/afero"
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
	folder = filepath.Join(folder, fmt.Sprint(v6.ModelVersion))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	store, err := v6.NewWriter(v6.Config{DBDirPath: folder, CacheSizeKiB: 1024})
	if err != nil {
		return err
	}
	if err := store.SetDBMetadata(); err != nil {
		return err
	}
	for _, each := range told.Advisories {
		if err := put(store, each, told.Made); err != nil {
			return err
		}
	}
	if err := store.Close(); err != nil {
		return err
	}
	if err := date(filepath.Join(folder, v6.VulnerabilityDBFileName), told.Made); err != nil {
		return err
	}
	_, err = v6.WriteImportMetadata(afero.NewOsFs(), folder, "made by a test")
	return err
}

// The library says that a database is of the moment in which it is written.
func date(path string, made time.Time) error {
	database, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer database.Close()
	_, err = database.Exec("UPDATE db_metadata SET build_timestamp = ?", made)
	return err
}

func put(store v6.ReadWriter, each advisory, made time.Time) error {
	provider := &v6.Provider{ID: "github", Version: "1", Processor: "test", DateCaptured: &made}
	affected := v6.AffectedPackageHandle{Package: &v6.Package{Ecosystem: "python", Name: each.Package}}
	kind := "python"
	if each.Debian != "" {
		provider.ID, kind = "debian", "dpkg"
		affected.Package.Ecosystem = "deb"
		affected.OperatingSystem = &v6.OperatingSystem{Name: "debian", ReleaseID: "debian", MajorVersion: each.Debian}
	}
	found := &v6.VulnerabilityHandle{
		Name: each.ID, Status: v6.VulnerabilityActive, PublishedDate: &made, ModifiedDate: &made, ProviderID: provider.ID,
		Provider: provider,
		BlobValue: &v6.VulnerabilityBlob{
			ID: each.ID, Description: each.Summary,
			Severities: []v6.Severity{{Scheme: v6.SeveritySchemeCHML, Value: strings.ToLower(each.Severity), Rank: 1}},
		},
	}
	if err := store.AddVulnerabilities(found); err != nil {
		return err
	}
	affected.VulnerabilityID = found.ID
	affected.BlobValue = &v6.PackageBlob{
		CVEs: []string{each.ID},
		Ranges: []v6.Range{{
			Version: v6.Version{Type: kind, Constraint: "< " + each.Fixed},
			Fix:     &v6.Fix{Version: each.Fixed, State: v6.FixedStatus},
		}},
	}
	return store.AddAffectedPackages(&affected)
}
