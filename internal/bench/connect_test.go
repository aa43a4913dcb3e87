package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// The sink takes a record by its schema, and finds a column for each field.
func TestConnectRecordFitsItsSchema(t *testing.T) {
	text, err := connectSchema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct{ Fields []connectField }
	if err := json.Unmarshal([]byte(text), &schema); err != nil {
		t.Fatal(err)
	}
	for _, f := range schema.Fields {
		if !strings.Contains(connectTable, "\n    "+f.Field+" ") {
			t.Errorf("the table has no column %s", f.Field)
		}
	}
	seen := make(map[tracking.Type]bool)
	for _, e := range stream(20_000, time.Now()) {
		seen[e.Type] = true
		r, err := connectRecord("topic", &e)
		if err != nil {
			t.Fatal(err)
		}
		var values map[string]string
		if err := json.Unmarshal(r.Value, &values); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		for _, f := range schema.Fields {
			if _, ok := values[f.Field]; !ok && !f.Optional {
				t.Errorf("%s has no %s", r.Value, f.Field)
			}
			delete(values, f.Field)
		}
		if len(values) > 0 {
			t.Fatalf("%s has %v, which the schema has not", r.Value, values)
		}
		if string(r.Key) != e.EmailID.String() {
			t.Fatalf("the key is %s, want %s", r.Key, e.EmailID)
		}
	}
	if len(seen) < 5 {
		t.Errorf("types in the stream: %v", seen)
	}
}

func TestConnectTo(t *testing.T) {
	sink := make(map[string]string)
	if err := connectTo(sink, "postgres://me:it%27s@127.0.0.1:5433/bench?sslmode=disable"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"connection.url":      "jdbc:postgresql://127.0.0.1:5433/bench?reWriteBatchedInserts=true",
		"connection.username": "me",
		"connection.password": "it's",
	} {
		if got := sink[name]; got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
}
