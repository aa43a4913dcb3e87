package provider_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

// An array's elements are its bytes, and if it breaks off the rest is kept.
func TestElements(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		want       []string
		rest       string // what cannot be read, yielded with an error; empty if nothing
	}{
		{"an object", `{"a":1}`, []string{`{"a":1}`}, ""},
		{"an object with space around", " {\"a\":1}\r\n", []string{" {\"a\":1}\r\n"}, ""},
		{"an array behind a byte order mark", "\ufeff[{\"a\":1},2]", []string{`{"a":1}`, `2`}, ""},
		{"an object behind a byte order mark", "\ufeff{\"a\":1}", []string{"\ufeff{\"a\":1}"}, ""},
		{"more behind it and a byte order mark before", "\ufeff[{\"a\":1}]2", []string{`{"a":1}`}, "2"},
		{"no JSON", `hello`, []string{`hello`}, ""},
		{"nothing", ``, []string{``}, ""},
		{"an empty array", `[ ]`, nil, ""},
		{"one", `[{"a" : 1}]`, []string{`{"a" : 1}`}, ""},
		{"as SendGrid writes it", "[{\"a\":1},\r\n{\"b\":\"\\u003c\"}]\r\n", []string{`{"a":1}`, `{"b":"\u003c"}`}, ""},
		{"elements that are no objects", `[1,"x",null,[{}]]`, []string{`1`, `"x"`, `null`, `[{}]`}, ""},
		{"cut off in an element", `[{"a":1},{"b":`, []string{`{"a":1}`}, `{"b":`},
		{"cut off after an element", `[{"a":1}`, []string{`{"a":1}`}, " "},
		{"cut off at once", `[`, nil, `[`},
		{"junk between", `[{"a":1},}{"b":2}]`, []string{`{"a":1}`}, `}{"b":2}]`},
		{"no comma", `[{"a":1}{"b":2}]`, []string{`{"a":1}`}, `{"b":2}]`},
		{"more behind it", `[{"a":1}]{"b":2}`, []string{`{"a":1}`}, `{"b":2}`},
	} {
		var got []string
		rest := ""
		for element, err := range provider.Elements([]byte(test.body)) {
			var drop *tracking.DropError
			switch {
			case err == nil:
				got = append(got, string(element))
			case !errors.As(err, &drop) || drop.Reason != tracking.NotJSON || rest != "":
				t.Errorf("%s: error %v", test.name, err)
			default:
				rest = string(element)
				if rest == "" {
					rest = " "
				}
			}
		}
		if !slices.Equal(got, test.want) || rest != test.rest {
			t.Errorf("%s: %q and %q, want %q and %q", test.name, got, rest, test.want, test.rest)
		}
		for range provider.Elements([]byte(test.body)) {
			break // as a producer without room does
		}
	}
}

func FuzzElements(f *testing.F) {
	for _, body := range []string{`[]`, `[{"a":1},{"b":2}]`, "[1 ,\r\n2]\n", `[{"a":1},`, `[[[`, `{}`, "\ufeff[1,{}]"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got []json.RawMessage
		whole := true
		for element, err := range provider.Elements(body) {
			if !bytes.Contains(body, element) {
				t.Fatalf("%q is not a part of the body", element)
			}
			whole = whole && err == nil
			got = append(got, slices.Clone(element))
		}
		var want []json.RawMessage
		if json.Unmarshal(bytes.TrimPrefix(body, []byte("\ufeff")), &want) != nil || want == nil {
			return
		}
		if !whole || !slices.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("%q, whole: %v; encoding/json finds %q", got, whole, want)
		}
	})
}
