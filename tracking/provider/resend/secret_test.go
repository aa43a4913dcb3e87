package resend

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/mailtally/mailtally/tracking/provider"
)

func TestParseSecret(t *testing.T) {
	bare := strings.TrimPrefix(testSecret, "whsec_")
	padded := base64.StdEncoding.EncodeToString([]byte("a key of 22 bytes, so "))
	tests := []struct{ name, text, key string }{
		{"as published", testSecret, bare},
		{"without prefix", bare, bare},
		{"white space around", " \t" + testSecret + "\r\n", bare},
		{"padded", "whsec_" + padded, padded},
		{"unpadded", "whsec_" + strings.TrimRight(padded, "="), padded},
		{"unpadded, without prefix", strings.TrimRight(padded, "="), padded},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			hooks, err := open(endpoint(t, test.text), at, sent{secret: test.key}.header(t), clicked)
			want(t, true, hooks, err)
		})
	}
}

func TestParseSecretRefuses(t *testing.T) {
	for _, text := range []string{"", " ", "whsec_", " whsec_\n", "whsec_====", "=", "whsec_secret!", "whsec_A", "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", testSecret + "," + otherSecret} {
		secret, err := ParseSecret(text)
		if err == nil {
			t.Errorf("%q is accepted as a secret", text)
			continue
		}
		if secret.sign != nil {
			t.Errorf("%q is refused, but there is a key", text)
		}
		if trimmed := strings.TrimPrefix(strings.TrimSpace(text), "whsec_"); len(trimmed) > 4 && strings.Contains(err.Error(), trimmed) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
}

// A secret that anybody guesses, or that is not the webhook's, is refused, with what to do
// about it. The error is in words of our own.
func TestNew_WeakSecrets(t *testing.T) {
	key := func(n int) string {
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef")[:n])
	}
	for _, test := range []struct{ text, want string }{
		{"v1," + testSecret, "secret 1 is v1, which"},
		{testSecret + ",v1," + otherSecret, "secret 2 is v1, which"},
		{"v1a,whpk_abc", "secret 1 is v1a, which"},
		{"changeme", "shorter than 16 bytes"},
		{"whsec_test", "shorter than 16 bytes"},
		{"AA==", "shorter than 16 bytes"},
		{key(15), "shorter than 16 bytes"},
		{"whsec_" + strings.Repeat("A", 32), "placeholder"},
		{"whsec_" + strings.Repeat("x", 32), "placeholder"},
		{"re_123456789_abcdefghijklmnopqrstuv", "API key"},
		{`"` + testSecret + `"`, "quote"},
		{"'" + testSecret, "quote"},
		{"whsec_" + testSecret, "not base64"},
		{"whsk_" + strings.TrimPrefix(testSecret, "whsec_"), "whsec_"},
		{"https://example.com/webhooks/resend", "not base64"},
		{"<" + testSecret + ">", "not base64"},
	} {
		e, err := New(test.text)
		if err == nil || e != nil {
			t.Errorf("%s is accepted", test.text)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q in it", test.text, err, test.want)
		}
		for _, part := range strings.Split(test.text, ",") {
			if len(part) > 3 && strings.Contains(err.Error(), strings.TrimPrefix(part, "whsec_")) {
				t.Errorf("%s: quoted in %v", test.text, err)
			}
		}
	}
	if _, err := New(key(16)); err != nil {
		t.Errorf("16 bytes: %v", err)
	}
}

// Nothing prints a secret: not alone, not inside a configuration, not inside what holds
// it.
func TestSecretIsHidden(t *testing.T) {
	secret, err := ParseSecret(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(testSecret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	leaks := []string{testSecret, strings.TrimPrefix(testSecret, "whsec_"), string(key),
		fmt.Sprintf("%x", key), fmt.Sprintf("%X", key), strings.Trim(fmt.Sprint(key), "[]"), strings.Trim(fmt.Sprintf("%#v", key), "[]byte{}")}

	var printed bytes.Buffer
	for _, value := range []any{secret, &secret, []Secret{secret}, endpoint(t, testSecret), []provider.Endpoint{endpoint(t, testSecret)}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%t"} {
			fmt.Fprintf(&printed, verb+"\n", value)
		}
		fmt.Fprintln(&printed, value)
	}
	for _, handler := range []func(io.Writer, *slog.HandlerOptions) slog.Handler{
		func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) },
		func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) },
	} {
		slog.New(handler(&printed, nil)).Info("start", "secret", secret, "endpoint", endpoint(t, testSecret))
	}
	if text, err := json.Marshal(struct{ S fmt.Stringer }{secret}); err == nil {
		printed.Write(text)
	}
	for _, leak := range leaks {
		if strings.Contains(printed.String(), leak) {
			t.Errorf("%q is printed", leak)
		}
	}
	if got := fmt.Sprintf("%v %+v %#v %s", secret, secret, secret, secret); got != strings.TrimSpace(strings.Repeat("whsec_(hidden) ", 4)) {
		t.Errorf("printed as %q", got)
	}
}

func FuzzParseSecret(f *testing.F) {
	for _, text := range []string{testSecret, otherSecret, "", "whsec_", "whsec_====", "AA==", "\n", testSecret + "=", "whsec_whsec_AAAA", "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		secret, err := ParseSecret(text)
		if err != nil {
			if secret.sign != nil {
				t.Error("an error and a key")
			}
			if len(text) > 8 && strings.Contains(err.Error(), text) {
				t.Errorf("the error quotes the secret: %v", err)
			}
			return
		}
		if secret.sign == nil {
			t.Fatal("neither an error nor a key")
		}
		again, err := ParseSecret(" whsec_" + strings.TrimPrefix(strings.TrimSpace(text), "whsec_") + "=\n")
		if err != nil || !bytes.Equal(again.sign(nil, signature{}, clicked), secret.sign(nil, signature{}, clicked)) {
			t.Errorf("prefix, padding and white space matter: %v", err)
		}
	})
}
