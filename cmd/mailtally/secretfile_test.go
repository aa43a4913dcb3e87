package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// write puts content into a new file.
func write(t *testing.T, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "secret")
	replace(t, path, content)
	return path
}

// replace swaps a file at once, as whoever rotates a secret does.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// What is no file that holds a secret is refused at once, whatever it is, for each of the
// variables. The error says why, and does not quote the variable: somebody may have put
// the secret itself there.
func TestSecretFile_Refused(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(fifo, link); err != nil {
		t.Fatal(err)
	}
	huge := write(t, "")
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, variable := range []string{
		"DATABASE_URL_FILE", "RESEND_WEBHOOK_SECRETS_FILE", "POSTMARK_WEBHOOK_CREDENTIALS_FILE", "KAFKA_SASL_PASSWORD_FILE",
		"KAFKA_TLS_CA_FILE", "KAFKA_TLS_CERT_FILE", "KAFKA_TLS_KEY_FILE",
	} {
		for _, test := range []struct{ name, path, want string }{
			{"a named pipe", fifo, "is a named pipe"},
			{"a link to one", link, "is a named pipe"},
			{"a folder", t.TempDir(), "is a folder"},
			{"a device", "/dev/zero", "is a device"},
			{"a huge file", huge, "is larger than"},
			{"an empty file", write(t, " \n"), "is empty"},
			{"nothing", "/n0where", "no such file"},
			{"the secret itself", "s3cr3t", "no such file"},
			{"a long secret", strings.Repeat("s3cr3t", 1000), "file name too long"},
			{"a byte order mark", write(t, "\ufeffpostgres://user:s3cr3t@host/db"), "byte order mark"},
			{"UTF-16", write(t, "\xff\xfep\x00o\x00s\x00"), "UTF-16"},
		} {
			environ := map[string]string{
				"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "me", "KAFKA_TLS": fmt.Sprint(strings.HasPrefix(variable, "KAFKA_TLS")), variable: test.path,
			}
			if pair := []string{"KAFKA_TLS_CERT_FILE", "KAFKA_TLS_KEY_FILE"}; slices.Contains(pair, variable) {
				environ[pair[0]], environ[pair[1]] = test.path, test.path
			}
			p := start(t, environ, "producer")
			if code := p.wait(); code != exitUsage || !strings.Contains(p.stderr.String(), "    "+variable+": ") || !strings.Contains(p.stderr.String(), test.want) {
				t.Errorf("%s is %s: exit code %d: %s", variable, test.name, code, p.stderr)
			}
			for _, part := range []string{"s3cr3t", "n0where", fifo} {
				if strings.Contains(p.stderr.String(), part) {
					t.Errorf("%s is %s: quoted in %s", variable, test.name, p.stderr)
				}
			}
		}
	}
}

// A byte order mark in a variable, or in its name, is named: editors put it where nobody
// sees it.
func TestConfig_ByteOrderMarks(t *testing.T) {
	t.Parallel()
	for _, v := range variables() {
		_, err := loadConfig(with(complete, v.name, "\ufeffs3cr3t"), 0)
		if err == nil || !strings.Contains(err.Error(), "    "+v.name+": begins with a byte order mark") || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", v.name, err)
		}
		if n := strings.Count(err.Error(), v.name+": "); n != 1 {
			t.Errorf("%s: %d errors: %v", v.name, n, err)
		}
	}
	unknown := unknownVariables(map[string]string{"\ufeffKAFKA_BROKERS": "x"})
	if len(unknown) != 1 || !strings.Contains(unknown[0], "byte order mark") {
		t.Errorf("its name: %q", unknown)
	}
}

// What is no broker's address is refused before anybody dials it.
func TestConfig_Brokers(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"http://h0st:9092", "PLAINTEXT://h0st:9092", "SASL_SSL://h0st", "h0st:99999", "h0st:0", "h0st:-1", "h0st:", ":9092", "h0st:9092/", "h0st:9092:9092", "h0st:kafka",
		"h0st 9092", "h0st;h1st", "me@h0st:9092", "me:s3cr3t@h0st:9092", `"h0st:9092"`, "'h0st", "[::1", "[::1]]", "[h0st]:9092", "[h0st]", "<h0st>", "${h0st}", "h0st:9092?x=1", "h0st,h1st:70000", "h0st\u200b:9092", "h0st:9092 h1st:9092", "-",
	} {
		_, err := loadConfig(with(complete, "KAFKA_BROKERS", value), 0)
		if err == nil || !strings.Contains(err.Error(), "KAFKA_BROKERS: ") {
			t.Errorf("%s: %v", value, err)
			continue
		}
		for _, part := range []string{"h0st", "s3cr3t", "h1st"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: quoted in %v", value, err)
			}
		}
	}
	for _, value := range []string{"host", "host:9092", "kafka-0.kafka_x.svc.cluster.local.:9092, 10.0.0.1:1", "[::1]:9092", "::1", "[::1]", "[fe80::1%eth0]:9092", "bücher.example:9092"} {
		if _, err := loadConfig(with(complete, "KAFKA_BROKERS", value), 0); err != nil {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// Whatever is in a variable, no error quotes it: somebody may have put a secret there.
func TestConfig_ErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	for _, v := range variables() {
		for _, value := range []string{"s3cr3t", "s3cr3t:s3cr3t", "s3cr3t:99999", "-1s3cr3t", "postgres://s3cr3t:s3cr3t@s3cr3t?s3cr3t", "\x00s3cr3t", "s3cr3t,s3cr3t,", "/s3cr3t", `"s3cr3t"`} {
			for _, more := range []map[string]string{nil, {"KAFKA_TLS": "true"}, {"KAFKA_SASL_MECHANISM": "PLAIN"}} {
				environ := with(more, "LOG_FORMAT", "xml") // always wrong
				environ[v.name] = value
				if _, err := loadConfig(environ, 0); err == nil || strings.Contains(err.Error(), "s3cr3t") {
					t.Errorf("%s=%q: %v", v.name, value, err)
				}
			}
		}
	}
}

// Whatever a secret looks like, and whether it is in its variable, in its file or, by
// mistake, in place of the file's name, no error quotes it.
func TestConfig_HidesSecretsProperty(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var names []string
	for _, v := range variables() {
		if name, isFile := strings.CutSuffix(v.name, "_FILE"); isFile && !strings.HasPrefix(name, "KAFKA_TLS_") {
			names = append(names, name)
		}
	}
	if len(names) < 4 {
		t.Fatalf("the secrets are %q", names)
	}
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.String(), rapid.SampledFrom(strings.Split(`",',@,/,:,;,=,&,%,#,<,>,{,},\,whsec_,v1.,re_,postgres://,me:,key=,host=`, ",")), rapid.SampledFrom([]string{"", ",", " ", "\n", "\ufeff", "\xff\xfe"}))
		value := piece.Draw(t, "before") + piece.Draw(t, "before that") + marked + piece.Draw(t, "after") + piece.Draw(t, "after that")
		name := rapid.SampledFrom(names).Draw(t, "variable")
		environ := map[string]string{"KAFKA_SASL_MECHANISM": "PLAIN", "LOG_FORMAT": "xml"} // wrong, so that there is an error
		switch rapid.IntRange(0, 2).Draw(t, "where") {
		case 0:
			environ[name] = value
		case 1:
			environ[name+"_FILE"] = filepath.Join(folder, "secret")
			if err := os.WriteFile(environ[name+"_FILE"], []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
		case 2:
			environ[name+"_FILE"] = value
		}
		if _, err := loadConfig(environ, needsDatabase|needsProvider|needsResend); err == nil || strings.Contains(err.Error(), marked) {
			t.Fatalf("%s: %v", name, err)
		}
	})
}
