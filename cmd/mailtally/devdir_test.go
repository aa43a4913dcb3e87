package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Folders of killed runs are removed, and none that is in use.
func TestDevDir_AbandonedAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var made []string
	for range 3 {
		d, err := openDevDir("")
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, d.path)
		defer d.close()
	}
	abandoned, young, inUse := made[0], made[1], made[2]
	longAgo := time.Now().Add(-time.Hour)
	for _, folder := range []string{abandoned, inUse} {
		if err := os.Chtimes(filepath.Join(folder, lockFile), longAgo, longAgo); err != nil {
			t.Fatal(err)
		}
	}
	unlock(t, abandoned)
	unlock(t, young)

	d, err := openDevDir("")
	if err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]bool{abandoned: false, young: true, inUse: true, d.path: true} {
		if _, err := os.Stat(folder); (err == nil) != want {
			t.Errorf("folder %s: %v, want it to exist: %v", folder, err, want)
		}
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(d.path); !os.IsNotExist(err) {
		t.Errorf("the folder is left at the end: %v", err)
	}
}

// unlock releases a folder's lock, as the death of its process does.
func unlock(t *testing.T, folder string) {
	t.Helper()
	name := filepath.Join(folder, lockFile)
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// The secret stays with the folder, and only its owner can read it.
func TestDevDir_Secret(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "data")
	open := func() (*devDir, config) {
		t.Helper()
		d, err := openDevDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		var c config
		if err := d.fillIn(&c); err != nil {
			t.Fatal(err)
		}
		return d, c
	}
	d, first := open()
	if err := d.close(); err != nil {
		t.Error(err)
	}
	d, second := open()
	if len(second.endpoints) != 1 || first.ResendWebhookSecrets != second.ResendWebhookSecrets || !strings.HasPrefix(first.ResendWebhookSecrets, "whsec_") {
		t.Errorf("secrets %q and %q", first.ResendWebhookSecrets, second.ResendWebhookSecrets)
	}
	for _, name := range []string{secretFile, lockFile} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	configured := config{ResendWebhookSecrets: testSecret}
	if err := d.fillIn(&configured); err != nil || configured.ResendWebhookSecrets != testSecret {
		t.Errorf("a configured secret became %q, %v", configured.ResendWebhookSecrets, err)
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
	// A damaged secret must not be replaced silently.
	if err := os.WriteFile(filepath.Join(folder, secretFile), []byte("whsec_%"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.fillIn(new(config)); err == nil || !strings.Contains(err.Error(), "remove the file to have a new one made") || strings.Contains(err.Error(), "whsec_%") {
		t.Errorf("error %v", err)
	}
}
