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
}

// chooseAccount returns the user to run the server of dir as: whoever owns the
// data or the folder already, else postgres, else nobody.
func chooseAccount(dir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, path := range []string{filepath.Join(dir, dataDir), dir} {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 {
			return accountOfOwner(owner), nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return parseAccount(u)
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as: " +
		"make one of them, let another user own the folder, or run mailtally as an ordinary user")
}

// accountOfOwner returns the account of a file's owner, who needs no entry in
// the user database.
func accountOfOwner(owner *syscall.Stat_t) *account {
	id := strconv.FormatUint(uint64(owner.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		if a, err := parseAccount(u); err == nil {
			return a
		}
	}
	return &account{name: "uid " + id, uid: owner.Uid, gid: owner.Gid}
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
	return &account{name: "user " + u.Username, uid: uint32(uid), gid: uint32(gid)}, nil
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
