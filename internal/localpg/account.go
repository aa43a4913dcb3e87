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

// account is the user that the server runs as where this process is root: as
// root, PostgreSQL refuses to start. A nil account is this process's own user.
type account struct {
	name     string
	uid, gid uint32

	// known is whether the user database has it. A server runs without an
	// entry there, as in a container, but initdb does not.
	known bool
}

// chooseAccount returns the user to run the server of dir as: whoever owns its
// data or, if that is a user known to the system, the folder; else postgres,
// else nobody.
func chooseAccount(dir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	data, err := ownerOf(filepath.Join(dir, dataDir))
	if err != nil || data != nil {
		return data, err
	}
	folder, err := ownerOf(dir)
	if err != nil || folder != nil && folder.known {
		return folder, err
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return parseAccount(u)
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as: " +
		"make one of them, let another user own the folder, or run mailtally as an ordinary user")
}

// ownerOf returns the account that owns path; nil if that is root, or if
// nothing is there.
func ownerOf(path string) (*account, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 {
		return nil, nil
	}
	id := strconv.FormatUint(uint64(owner.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return parseAccount(u)
	}
	return &account{name: "uid " + id, uid: owner.Uid, gid: owner.Gid}, nil
}

func parseAccount(u *user.User) (*account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("uid of user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("gid of user %s: %w", u.Username, err)
	}
	return &account{name: "user " + u.Username, uid: uint32(uid), gid: uint32(gid), known: true}, nil
}

// credential returns what a child must be started with, without any further
// groups.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// reach returns an error where the account cannot enter path or a folder above
// it. What doesn't exist is skipped.
func (a *account) reach(path string) error {
	if a == nil {
		return nil
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !a.mayEnter(info):
			return fmt.Errorf("%s, who must run the server because PostgreSQL refuses root, cannot enter %s (mode %04o): "+
				"choose a folder such as /var/lib/mailtally, or run mailtally as an ordinary user", a.name, at, info.Mode().Perm())
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// makeDir makes dir and the folders above it where they are missing: for us
// alone, or where there is an account, so that it can enter whatever our umask
// is.
func (a *account) makeDir(dir string) error {
	if a == nil {
		return os.MkdirAll(dir, 0o700)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := a.makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o711)
}

func (a *account) mayEnter(dir fs.FileInfo) bool {
	owner := dir.Sys().(*syscall.Stat_t)
	mode := dir.Mode().Perm()
	switch {
	case owner.Uid == a.uid:
		return mode&0o100 != 0
	case owner.Gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}
