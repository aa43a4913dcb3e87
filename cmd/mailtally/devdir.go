package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/mailtally/mailtally/tracking/provider/resend"
)

const (
	devDirPattern = "mailtally-dev-"
	lockFile      = "lock"
	secretFile    = "webhook-secret"

	// Others may enter: when run as root, PostgreSQL runs as another user.
	devDirMode = 0o711
)

// devDir is the folder of a running dev. A lock keeps others out, and is released when
// the process ends, however it ends.
type devDir struct {
	path      string
	temporary bool
	lock      *flock.Flock
}

// openDevDir locks the folder and creates it if missing. Without a name it uses a new
// temporary folder.
func openDevDir(path string) (d *devDir, err error) {
	d = &devDir{temporary: path == ""}
	if d.temporary {
		removeAbandoned()
		if d.path, err = os.MkdirTemp("", devDirPattern); err != nil {
			return nil, fmt.Errorf("make a temporary folder: %w: name one that you can write to in TMPDIR, or in -data", err)
		}
		if err := errors.Join(os.Chmod(d.path, devDirMode), d.take()); err != nil {
			return nil, errors.Join(err, os.RemoveAll(d.path))
		}
		return d, nil
	}
	if d.path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.path, devDirMode); err != nil {
		return nil, fmt.Errorf("make the data folder: %w: choose a -data folder that you can write to", err)
	}
	return d, d.take()
}

// take locks the folder, or says who holds it.
func (d *devDir) take() error {
	name := filepath.Join(d.path, lockFile)
	d.lock = flock.New(name, flock.SetPermissions(0o600))
	locked, err := d.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock the data folder: %w: choose a -data folder that you can write to", err)
	}
	if !locked {
		owner, _ := os.ReadFile(name)
		return fmt.Errorf("the data folder %s is in use by another mailtally dev (process %s): stop it, or choose another -data folder", d.path, strings.TrimSpace(string(owner)))
	}
	if err := os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return errors.Join(fmt.Errorf("lock the data folder: %w", err), d.lock.Unlock())
	}
	return nil
}

// close releases the folder, and removes it if it is temporary.
func (d *devDir) close() error {
	var err error
	if d.temporary {
		err = os.RemoveAll(d.path)
	}
	return errors.Join(err, d.lock.Unlock())
}

// fillIn gives c a webhook secret if it has none. The folder keeps it, so it stays the
// same between runs.
func (d *devDir) fillIn(c *config) error {
	if c.ResendWebhookSecrets != "" {
		return nil
	}
	name := filepath.Join(d.path, secretFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, 24)
		rand.Read(key)
		text = []byte("whsec_" + base64.StdEncoding.EncodeToString(key))
		// All or nothing: half a secret would break every later start.
		if err = os.WriteFile(name+".new", text, 0o600); err == nil {
			err = os.Rename(name+".new", name)
		}
	}
	if err != nil {
		return fmt.Errorf("the webhook secret of the data folder: %w", err)
	}
	c.ResendWebhookSecrets = strings.TrimSpace(string(text))
	endpoint, err := resend.New(c.ResendWebhookSecrets)
	if err != nil {
		return fmt.Errorf("the webhook secret in %s: %w; or remove the file to have a new one made", name, err)
	}
	c.endpoints = append(c.endpoints, endpoint)
	return nil
}

// removeAbandoned removes temporary folders whose dev was killed. A folder created a
// moment ago may not be locked yet.
func removeAbandoned() {
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), devDirPattern+"*"))
	for _, folder := range folders {
		name := filepath.Join(folder, lockFile)
		info, err := os.Stat(name)
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		lock := flock.New(name, flock.SetFlag(os.O_RDWR))
		if locked, err := lock.TryLock(); err == nil && locked {
			os.RemoveAll(folder)
			lock.Unlock()
		}
	}
}
