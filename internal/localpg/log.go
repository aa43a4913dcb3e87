package localpg

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	logFile = "postgresql.log"

	// A start on a longer log begins a new one.
	maxLogSize = 16 << 20

	// What an error quotes of the log.
	maxLogTail = 4 << 10
)

// serverLog is the server's log, and in it the part that one process wrote.
type serverLog struct {
	file  *os.File
	path  string
	start int64
}

// openLog opens the log for a server to append to.
func (c *cluster) openLog() (*serverLog, error) {
	file, err := c.root.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	l := &serverLog{file: file, path: c.path(logFile)}
	if l.start, err = file.Seek(0, io.SeekEnd); err == nil && l.start > maxLogSize {
		l.start, err = 0, file.Truncate(0)
	}
	if err == nil {
		err = c.give(logFile)
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	return l, nil
}

func (l *serverLog) close() { _ = l.file.Close() }

// written returns the end of what was written since openLog.
func (l *serverLog) written() []byte {
	file, err := os.Open(l.path)
	if err != nil {
		return nil
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil
	}
	from := max(l.start, size-maxLogTail)
	text, _ := io.ReadAll(io.NewSectionReader(file, from, size-from))
	return text
}

// tail returns the end of the log for an error message.
func (l *serverLog) tail() string {
	text := strings.TrimSpace(string(l.written()))
	if text == "" {
		return "(it logged nothing to " + l.path + ")"
	}
	return "the end of " + l.path + ":\n" + text
}

// portTaken tells whether the server gave up because it could not listen. The
// exit status does not say it and there is no connection yet to ask: the log,
// whose language serverArgs fixes, is all there is.
func (l *serverLog) portTaken() bool {
	return bytes.Contains(l.written(), []byte("could not create any TCP/IP sockets"))
}
