package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// maxSecretFile bounds a file that holds a secret or certificates, in bytes. All of the
// world's certificate authorities take a quarter of it.
const maxSecretFile = 1 << 20

// secret is the value of a variable, or what the file now holds that the variable NAME_FILE
// names. It is read anew for each connection, so that a secret may change without a restart.
// Errors quote neither: somebody may have put the secret itself into NAME_FILE.
func secret(value, name, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	content, err := readSecretFile(file)
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", name, err)
	}
	return content, nil
}

// readSecretFile reads a file, without the newline that editors put at its end. It never
// blocks, as opening a named pipe would.
func readSecretFile(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("cannot be opened: %w (it must hold a file's name)", withoutPath(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("is %s: want a regular file", fileKind(info.Mode()))
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", withoutPath(err))
	}
	text := strings.TrimSpace(string(content))
	switch {
	case len(content) > maxSecretFile:
		return "", fmt.Errorf("is larger than %d KiB, which no secret is", maxSecretFile>>10)
	case text == "":
		return "", errors.New("is empty")
	}
	return text, checkEncoding(text)
}

func withoutPath(err error) error {
	if named, ok := errors.AsType[*fs.PathError](err); ok {
		return named.Err
	}
	return err
}

func fileKind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}

const byteOrderMark = "\ufeff"

// checkEncoding finds what editors write and nobody sees.
func checkEncoding(text string) error {
	switch {
	case strings.HasPrefix(text, byteOrderMark):
		return errors.New("begins with a byte order mark, which cannot be seen: save it as UTF-8 without one")
	case strings.Contains(text, byteOrderMark):
		return errors.New("has a byte order mark in it, which cannot be seen: remove it")
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		return errors.New("is in UTF-16: save it as UTF-8 without a byte order mark")
	}
	return nil
}
