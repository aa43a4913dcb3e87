package deploy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dashboard is the part of a dashboard that the tests read.
type dashboard struct {
	file  string
	text  string
	UID   string
	Title string
	Links []link

	Templating  struct{ List []variable }
	Annotations struct {
		List []struct {
			Name       string
			Datasource ref
			Target     target
		}
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	// PluginVersion is Grafana's: with an older one, Grafana would migrate the panel.
	PluginVersion string
	Datasource    ref
	Links         []link
	GridPos       struct{ X, Y, W, H int }
	Targets       []target
	FieldConfig   struct {
		Defaults struct {
			Unit string
		}
		Overrides []override
	}
}

type override struct {
	Matcher    struct{ ID, Options string }
	Properties []struct {
		ID    string
		Value json.RawMessage
	}
}

// color is the fixed color that an override sets, if any.
func (o override) color(t *testing.T) string {
	for _, p := range o.Properties {
		if p.ID == "color" {
			var value struct{ FixedColor string }
			if err := json.Unmarshal(p.Value, &value); err != nil {
				t.Fatal(err)
			}
			return value.FixedColor
		}
	}
	return ""
}

type target struct {
	RefID        string
	Datasource   ref
	Expr         string
	LegendFormat string
}

type variable struct {
	Name, Type string
	Datasource ref
	Query      json.RawMessage
	Current    struct{ Value string }
	AllValue   string
}

// query is the query of a variable of type "query".
func (v variable) query(t *testing.T) string {
	var query struct{ Query string }
	if err := json.Unmarshal(v.Query, &query); err != nil {
		t.Fatal(err)
	}
	return query.Query
}

type (
	ref  struct{ Type, UID string }
	link struct{ Title, URL string }
)

// dashboards reads those of grafana/dashboards.
func dashboards(t *testing.T) []dashboard {
	t.Helper()
	files, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	var all []dashboard
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := dashboard{file: strings.TrimSuffix(filepath.Base(file), ".json"), text: string(text)}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, d)
	}
	return all
}
