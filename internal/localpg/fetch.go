package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"github.com/gofrs/flock"
)

// newestFetched is the major version to fetch for new data.
const newestFetched = 18

// fetched are the versions that can be fetched, by their major one. They are the
// library's, so an upgrade of the library is an upgrade of these.
var fetched = map[int]embeddedpostgres.PostgresVersion{
	14:            embeddedpostgres.V14,
	15:            embeddedpostgres.V15,
	16:            embeddedpostgres.V16,
	17:            embeddedpostgres.V17,
	newestFetched: embeddedpostgres.V18,
}

// Fetch returns the folder with the programs of a PostgreSQL of that major version,
// whatever is installed: pass it as Options.BinDir for a cluster in dir. It comes from
// mailtally's cache, which is filled from the network the first time.
func Fetch(ctx context.Context, dir string, major int) (binDir string, err error) {
	c, err := openCluster(dir)
	if err != nil {
		return "", fmt.Errorf("open PostgreSQL folder %q: %w", dir, err)
	}
	bin, err := fetchBinaries(ctx, major, c, slog.New(slog.DiscardHandler))
	return bin.dir, err
}

// fetchBinaries returns binaries from the cache, which it fills from the network the
// first time. The download can't be interrupted: if ctx ends, it goes on in the
// background and fills the cache, unless this process ends first.
func fetchBinaries(ctx context.Context, major int, c *cluster, log *slog.Logger) (binaries, error) {
	if major == 0 {
		major = newestFetched
	}
	version, ok := fetched[major]
	if !ok {
		return binaries{}, fmt.Errorf("there is no build of PostgreSQL %d to fetch", major)
	}
	cache, err := cacheDir()
	if err != nil {
		return binaries{}, err
	}
	home := filepath.Join(cache, "postgresql-"+string(version))
	if _, err := os.Stat(home); errors.Is(err, fs.ErrNotExist) {
		log.InfoContext(ctx, "no PostgreSQL found here: fetching one", "version", string(version), "to", home)
		result := make(chan error, 1)
		go func() { result <- fetch(version, major, home) }()
		select {
		case err = <-result:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return binaries{}, fmt.Errorf("fetch PostgreSQL %s into %s: %w", version, home, err)
		}
	}
	b, err := probe(ctx, filepath.Join(home, "bin"), major, c)
	if err != nil {
		return b, fmt.Errorf("%w: remove %s to have it fetched again", err, home)
	}
	return b, nil
}

// cacheDir returns where downloaded binaries are kept. For root, it must be a folder
// that the server's user can enter, which root's home is not.
func cacheDir() (string, error) {
	if os.Geteuid() != 0 {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a folder to keep it in: %w", err)
		}
		return filepath.Join(dir, "mailtally"), nil
	}
	if runtime.GOOS == "darwin" {
		return "/Library/Caches/mailtally", nil
	}
	return "/var/cache/mailtally", nil
}

// fetch creates the folder home completely or not at all: it fills a folder beside it
// and renames that. One process does so at a time; the others find it done.
func fetch(version embeddedpostgres.PostgresVersion, major int, home string) error {
	if err := makeOpenParent(filepath.Dir(home)); err != nil {
		return err
	}
	lock := flock.New(home+".lock", flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer lock.Unlock()
	if _, err := os.Stat(home); err == nil {
		return nil
	}
	unfinished := home + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil { // of a process that was killed
		return err
	}
	err := unpack(version, major, unfinished)
	if err == nil {
		err = os.Rename(filepath.Join(unfinished, "dist"), home)
	}
	return errors.Join(err, os.RemoveAll(unfinished))
}

// unpack downloads the version and unpacks it to dir/dist.
func unpack(version embeddedpostgres.PostgresVersion, major int, dir string) error {
	// The library only offers to start a server, and only the steps before that are
	// wanted: look for the programs, download, verify the checksum, unpack. A data
	// folder that claims to be of the right version and contains nothing else makes it
	// skip initdb, and makes the server fail at once, as any user. (It leaves a small
	// log in the system's temporary folder.)
	data, run, dist := filepath.Join(dir, "data"), filepath.Join(dir, "run"), filepath.Join(dir, "dist")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(strconv.Itoa(major)+"\n"), 0o600); err != nil {
		return err
	}
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(version).
		Port(0). // it first checks that the port is free, which this one always is
		CachePath(filepath.Join(dir, "archive")).
		BinariesPath(dist).
		DataPath(data).
		RuntimePath(run).
		Logger(io.Discard))
	err := server.Start()
	if err == nil {
		return errors.Join(errors.New("a server started on an empty data folder"), server.Stop())
	}
	// The library uses the default client and leaves no connection open.
	http.DefaultClient.CloseIdleConnections()

	// The library creates the run folder right after unpacking, so its existence tells
	// whether the error happened before or after.
	if _, statErr := os.Stat(run); statErr != nil {
		return err
	}
	return makeReadable(dist)
}

// makeReadable lets every user run the programs, whatever the umask.
func makeReadable(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}
