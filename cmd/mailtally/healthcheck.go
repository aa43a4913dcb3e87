package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// runHealthcheck asks a producer or a consumer on this machine whether it is ready.
// It is for a container's health check: the image has no shell and no curl.
func runHealthcheck(ctx context.Context, args []string, environ map[string]string, stdout, _ io.Writer) error {
	if err := noArguments(args); err != nil {
		return err
	}
	c, err := loadConfig(environ, 0)
	if err != nil {
		return err
	}
	url, err := localURL("ADMIN_ADDR", c.AdminAddr, "/readyz")
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout+time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// The process is on this machine: a proxy of the environment is not asked.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	parts, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, bytes.TrimSpace(parts))
	}
	_, err = stdout.Write(parts)
	return err
}
