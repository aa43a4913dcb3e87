package localkafka

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// patience bounds waits for what must happen; it is never waited out.
const patience = time.Minute

func start(t *testing.T, dir string, options ...kfake.Opt) *Broker {
	t.Helper()
	b, err := Start(dir, nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// ping is whether a client is served.
func ping(t *testing.T, b *Broker, options ...kgo.Opt) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(b.Addr()), kgo.RequestRetries(0))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = kadm.NewClient(client).Metadata(ctx)
	return err
}

// frame is a request with that API key and n bytes more.
func frame(key int16, n int) []byte {
	text := binary.BigEndian.AppendUint32(nil, uint32(2+n))
	return append(binary.BigEndian.AppendUint16(text, uint16(key)), make([]byte, n)...)
}

// What no client of Kafka sends ends its connection, and nothing else.
func TestBroker_HostileFrames(t *testing.T) {
	t.Parallel()
	b := start(t, t.TempDir())
	for name, sent := range map[string][]byte{
		"an unknown API key":           frame(1000, 9),
		"the largest API key":          frame(32767, 9),
		"a negative API key":           frame(-1, 9),
		"the first API key after all":  frame(93, 9),
		"a known one, then an unknown": append(frame(18, 8), frame(1000, 9)...),
		"no content":                   {0, 0, 0, 0},
		"no whole header":              frame(18, 1),
		"four gigabytes":               {255, 255, 255, 255, 0, 18},
		"a negative size":              {128, 0, 0, 0, 0, 18},
		"an HTTP request":              []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"a greeting of TLS":            []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
	} {
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(sent); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// A reset is as good as an end.
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is not closed", name)
		}
		conn.Close()
		if err := ping(t, b); err != nil {
			t.Fatalf("after %s a client is not served: %v", name, err)
		}
	}
}

// A frame that comes byte by byte, and one that is large, are passed on as they are.
func TestGuarded_PassesRequestsOn(t *testing.T) {
	t.Parallel()
	sent := append(append(frame(18, 8), frame(0, 100_000)...), frame(3, 6)...)
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+len(rest)%7)
			if _, err := client.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	got, err := io.ReadAll(&guarded{Conn: server})
	if err != nil || string(got) != string(sent) {
		t.Errorf("%d bytes of %d are passed on, %v", len(got), len(sent), err)
	}
}

// A password keeps strangers out, and is the present one: what an earlier run on the
// same folder had counts no more.
func TestBroker_Password(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	with := func(user, password string) kgo.Opt {
		return kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism())
	}
	old := start(t, dir)
	if err := ping(t, old); err != nil {
		t.Errorf("without a password to ask for: %v", err)
	}
	old.Close()
	for _, password := range []string{"first", "second"} {
		b := start(t, dir, Password("mailtally", password)...)
		if err := ping(t, b, with("mailtally", password)); err != nil {
			t.Errorf("with the password %q: %v", password, err)
		}
		for name, options := range map[string][]kgo.Opt{
			"no password": nil, "a wrong one": {with("mailtally", "wrong")}, "another user": {with("admin", "admin")},
			"the right one in the clear": {kgo.SASL(plain.Auth{User: "mailtally", Pass: password}.AsMechanism())},
		} {
			if err := ping(t, b, options...); err == nil {
				t.Errorf("%s is let in", name)
			} else if strings.Contains(err.Error(), password) {
				t.Errorf("%s: the error quotes the password: %v", name, err)
			}
		}
		b.Close()
	}
}
