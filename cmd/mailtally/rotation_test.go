package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/mailtally/mailtally/internal/localkafka"
)

// A password of PostgreSQL that changes in its file is used by the next connection. A file
// that is away meanwhile is a connection that fails, and is tried again.
func TestRotation_Database(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	admin := connect(t, environ["DATABASE_URL"])
	u, err := url.Parse(environ["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	role := "r" + strings.ReplaceAll(uuid.NewString(), "-", "")
	setPassword := func(verb, password string) string {
		t.Helper()
		if _, err := admin.Exec(t.Context(), verb+" ROLE "+role+" SUPERUSER LOGIN PASSWORD '"+password+"'"); err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(role, password)
		return u.String() + "\n"
	}
	file := write(t, setPassword("CREATE", "the first one"))
	p := start(t, with(environ, "DATABASE_URL", "", "DATABASE_URL_FILE", file), "consumer")
	public, _ := start(t, environ, "producer").addresses()
	send := func() uuid.UUID {
		email := uuid.New()
		if status := post(t, public, testSecret, email.String(), opened(email)); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		return email
	}
	awaitOpen(t, admin, send())

	changed := setPassword("ALTER", "the second one")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role); err != nil {
		t.Fatal(err)
	}
	email := send()
	p.line(p.stderr, `"reason":"connection"`)
	p.line(p.stderr, `DATABASE_URL_FILE: cannot be opened: no such file`)
	replace(t, file, changed)
	awaitOpen(t, admin, email)
	p.endsWell()
}

// authority is a certificate authority, for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.make(&x509.Certificate{IsCA: true, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, Subject: pkix.Name{CommonName: uuid.NewString()}})
	return a
}

func (a *authority) make(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// server is what a broker needs that accepts only clients with a certificate.
func (a *authority) server() *tls.Config {
	cert, key := a.make(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: a.pool(),
	}
}

// client gives the PEM of the authority, and of a new certificate and its key.
func (a *authority) client() (ca, cert, key string) {
	c, k := a.make(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", a.cert.Raw), encode("CERTIFICATE", c.Raw), encode("PRIVATE KEY", der)
}

// Kafka's password, certificates and authority change in their files, and the broker with
// them: both roles continue without a restart. While a file is away, connections fail, say so
// and are tried again.
func TestRotation_Kafka(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			var broker *localkafka.Broker
			t.Cleanup(func() { broker.Close() })
			run := func(password string, authority *authority, more ...kfake.Opt) {
				t.Helper()
				var err error
				// The listener is not the guarded one, which would read TLS as damaged frames.
				broker, err = localkafka.Start(folder, nil, append(more, kfake.ListenFn(net.Listen), kfake.EnableSASL(), kfake.Superuser(mechanism, "me", password), kfake.TLS(authority.server()))...)
				if err != nil {
					t.Fatal(err)
				}
			}
			first, second := newAuthority(t), newAuthority(t)
			run("the first one", first)
			addr := broker.Addr()
			ca, cert, key := first.client()
			files := map[string]string{
				"KAFKA_SASL_PASSWORD_FILE": write(t, "the first one\n"), "KAFKA_TLS_CA_FILE": write(t, ca), "KAFKA_TLS_CERT_FILE": write(t, cert), "KAFKA_TLS_KEY_FILE": write(t, key),
			}
			environ := with(system(t), "KAFKA_BROKERS", addr, "KAFKA_TLS", "true", "KAFKA_SASL_MECHANISM", mechanism, "KAFKA_SASL_USERNAME", "me")
			for name, file := range files {
				environ[name] = file
			}
			if p := start(t, environ, "migrate"); p.wait() != 0 {
				t.Fatal(p.stderr)
			}
			producer, consumer := start(t, environ, "producer"), start(t, environ, "consumer")
			public, _ := producer.addresses()
			pool := connect(t, environ["DATABASE_URL"])
			send := func() (uuid.UUID, error) {
				email := uuid.New()
				return email, same("status", post(t, public, testSecret, email.String(), opened(email)), http.StatusOK)
			}
			email, err := send()
			if err != nil {
				t.Fatal(err)
			}
			awaitOpen(t, pool, email)

			broker.Close()
			// The broker keeps its users.
			for _, file := range []string{files["KAFKA_TLS_KEY_FILE"], files["KAFKA_SASL_PASSWORD_FILE"], filepath.Join(folder, "sasl.json")} {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			_, port, _ := net.SplitHostPort(addr)
			n, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			run("the second one", second, kfake.Ports(n))
			ca, cert, key = second.client()
			says := func(want string) {
				t.Helper()
				for role, p := range map[string]*process{"producer": producer, "consumer": consumer} {
					_, admin := p.addresses()
					eventually(t, func() error { // asked, since nothing else wants Kafka now
						if _, text := get(t, "http://"+admin+"/readyz"); !strings.Contains(text+p.stderr.String(), want) {
							return fmt.Errorf("the %s says nothing of %s: %s%s", role, want, text, p.stderr)
						}
						return nil
					})
				}
			}
			says("KAFKA_TLS_KEY_FILE: cannot be opened: no such file")
			replace(t, files["KAFKA_TLS_CA_FILE"], ca)
			replace(t, files["KAFKA_TLS_CERT_FILE"], cert)
			replace(t, files["KAFKA_TLS_KEY_FILE"], key)
			says("KAFKA_SASL_PASSWORD_FILE: cannot be opened: no such file")
			replace(t, files["KAFKA_SASL_PASSWORD_FILE"], "the second one\n")
			eventually(t, func() (err error) { email, err = send(); return err })
			awaitOpen(t, pool, email)
			for _, p := range []*process{producer, consumer} {
				if text := p.stderr.String(); strings.Contains(text, "the first one") || strings.Contains(text, "the second one") {
					t.Errorf("a password is in %s", text)
				}
				p.endsWell()
			}
		})
	}
}
