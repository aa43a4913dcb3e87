package localpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that the server runs as if this process is root: PostgreSQL
// refuses to start as root. A nil account is this process's own user.
type account struct {
	name     string
	uid, gid uint32
}

// chooseAccount returns the user to run the server as: the owner of its data, else
// postgres, else nobody.
func chooseAccount(data string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	info, err := os.Lstat(data)
	if err == nil {
		owner := info.Sys().(*syscall.Stat_t)
		if owner.Uid == 0 {
			return nil, fmt.Errorf("%s belongs to root, and PostgreSQL does not run as root: give it to another user (chown -R), or remove it", data)
		}
		return &account{name: "uid " + strconv.Itoa(int(owner.Uid)), uid: owner.Uid, gid: owner.Gid}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		return &account{name: "user " + name, uid: uint32(uid), gid: uint32(gid)}, errors.Join(uidErr, gidErr)
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as: " +
		"make one of them, or run mailtally as an ordinary user")
}

// credential returns the credential to start a child with; it has no further groups.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own makes the account the owner of name.
func (a *account) own(name string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(name, int(a.uid), int(a.gid))
}

// explain adds the likely cause to an error of running a program as the account.
func (a *account) explain(err error) error {
	if a == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: as PostgreSQL refuses root, %s runs it, and cannot enter the folder: choose one such as /var/lib/mailtally, or run mailtally as an ordinary user", err, a.name)
}

// makeOpenDir creates dir and the folders above it if missing, and lets every user pass
// through dir, whatever the umask.
func makeOpenDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeOpenParent(filepath.Dir(dir)); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return os.Chmod(dir, 0o711)
	}
	if err != nil {
		return err
	}
	return os.Chmod(dir, info.Mode().Perm()|0o111)
}

// makeOpenParent leaves existing folders as they are.
func makeOpenParent(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return makeOpenDir(dir)
}
