package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// runHealthcheck asks a producer or a consumer on this machine whether it is ready. It
// is for a container's health check: the image has no shell and no curl.
func runHealthcheck(ctx context.Context, i *invocation) error {
	if err := i.parse(); err != nil {
		return err
	}
	c, err := loadConfig(i.environ, 0)
	if err != nil {
		return err
	}
	url := localURL(c.AdminAddr, "/readyz")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// The process is on this machine: ignore proxies set in the environment.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: readyTimeout + time.Second}
	resp, err := client.Do(req)
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
	_, err = i.stdout.Write(parts)
	return err
}
