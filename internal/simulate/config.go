package simulate

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Unlimited is a Rate without pacing: as fast as the connections allow. +Inf means the
// same.
const Unlimited = math.MaxFloat64

const (
	defaultConnections = 16
	maxConnections     = 10_000
	// maxRate is far beyond one process: anything above counts as Unlimited.
	maxRate = 1e9

	// answerTimeout is Svix's: how long a receiver may take to answer.
	answerTimeout = 15 * time.Second
)

// Config says what to send where.
type Config struct {
	URL         string       // of the endpoint, such as http://127.0.0.1:8080/webhooks/resend
	Secret      string       // whsec_…, to sign with
	Rate        float64      // new webhooks a second, or Unlimited
	Connections int          // the most concurrent requests; 0 for 16
	Total       int          // stop after this many webhooks; 0 for never
	Seed        uint64       // the same seed gives the same ids, types and order; 0 for a random one
	Faults      bool         // mix in forged, stale, unreadable, foreign and dirty webhooks
	Client      *http.Client // optional; its connections are left to its owner

	// Failed, unless nil, is told of each request that got no answer (status 0), an
	// Unexpected one, or one after which it is sent again. Several calls may overlap.
	Failed func(status int, reason string)
}

// validate reports all errors at once.
func (c Config) validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		errs = append(errs, fmt.Errorf("URL %q: want http://host/path or https://host/path", c.URL))
	}
	if !(c.Rate > 0) { // NaN too
		errs = append(errs, fmt.Errorf("rate %v: want more than 0", c.Rate))
	}
	if c.Connections < 0 || c.Connections > maxConnections {
		errs = append(errs, fmt.Errorf("connections %d: want 1 to %d, or 0 for %d", c.Connections, maxConnections, defaultConnections))
	}
	if c.Total < 0 {
		errs = append(errs, fmt.Errorf("total %d: want 0 or more", c.Total))
	}
	return errors.Join(errs...)
}

// newClient makes a client with a connection for each concurrent request, all kept
// alive, as a provider's are.
func newClient(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConns:        connections,
		MaxIdleConnsPerHost: connections,
		MaxConnsPerHost:     connections,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
	}}
}
