package deploy

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// palette is Okabe and Ito's, which the colour-blind can tell apart, plus a grey.
var palette = []string{"#0072B2", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#56B4E9", "#F0E442", "#8C8C8C"}

// Somebody who sees a panel for the first time is told what it shows, what is normal
// and where to read on; and panels do not overlap.
func TestPanelsExplainThemselves(t *testing.T) {
	uids := make(map[string]bool)
	for _, d := range dashboards(t) {
		uids[d.UID] = true
	}
	for _, d := range dashboards(t) {
		t.Run(d.file, func(t *testing.T) {
			if want := "mailtally-" + d.file; d.UID != want {
				t.Errorf("its uid is %q, not %q", d.UID, want)
			}
			ids := make(map[int]bool)
			var cells [200][24]string
			for _, p := range d.Panels {
				if p.ID == 0 || ids[p.ID] {
					t.Errorf("%q: its id %d is not its own", p.Title, p.ID)
				}
				ids[p.ID] = true
				at := p.GridPos
				if at.W < 1 || at.H < 1 || at.X < 0 || at.Y < 0 || at.X+at.W > 24 || at.Y+at.H > len(cells) {
					t.Errorf("%q is outside of the grid: %+v", p.Title, at)
					continue
				}
				for y := at.Y; y < at.Y+at.H; y++ {
					for x := at.X; x < at.X+at.W; x++ {
						if other := cells[y][x]; other != "" && other != p.Title {
							t.Fatalf("%q lies over %q", p.Title, other)
						}
						cells[y][x] = p.Title
					}
				}
				if p.Title == "" {
					t.Errorf("panel %d has no title", p.ID)
				}
				if p.Type == "row" {
					continue
				}
				if !strings.Contains(p.Description, "Normal: ") {
					t.Errorf("%q: its description does not say what is normal: %q", p.Title, p.Description)
				}
				if p.FieldConfig.Defaults.Unit == "" {
					t.Errorf("%q has no unit", p.Title)
				}
				if len(p.Targets) == 0 {
					t.Errorf("%q has no query", p.Title)
				}
				if !slices.ContainsFunc(p.Links, func(l link) bool { return strings.HasPrefix(l.URL, runbook) }) {
					t.Errorf("%q has no link to the runbook", p.Title)
				}
				for _, l := range p.Links {
					if uid, ok := strings.CutPrefix(l.URL, "/d/"); ok {
						if uid, _, _ = strings.Cut(uid, "?"); !uids[uid] {
							t.Errorf("%q links to %s, which is not there", p.Title, l.URL)
						}
					} else if _, anchor, ok := strings.Cut(l.URL, "#"); ok {
						if name := strings.TrimPrefix(l.Title, "Runbook: "); alerts[name] == nil || l.URL != runbook+"#"+strings.ToLower(name) {
							t.Errorf("%q: no alert has the anchor %q under the title %q", p.Title, anchor, l.Title)
						}
					}
				}
			}
			for y, row := range cells {
				if used := slices.ContainsFunc(row[:], func(title string) bool { return title != "" }); used && slices.Contains(row[:], "") {
					t.Errorf("line %d of the grid has a hole: %q", y, row)
				}
			}
		})
	}
}

// Every name used exists, variables and data source among them, and nothing depends on
// one particular installation.
func TestDashboardsHaveTheirVariables(t *testing.T) {
	named := regexp.MustCompile(`\$\{?(\w+)`)
	builtin := []string{"__rate_interval", "__range", "__url_time_range", "__all"}
	source := ref{"prometheus", "${datasource}"}
	for _, d := range dashboards(t) {
		t.Run(d.file, func(t *testing.T) {
			known := slices.Clone(builtin)
			for _, v := range d.Templating.List {
				known = append(known, v.Name)
				if v.Type == "adhoc" && v.Datasource != source { // Grafana adds its filters to the queries of that source
					t.Errorf("variable %s filters %+v", v.Name, v.Datasource)
				}
				if v.Type == "query" && (v.AllValue != ".*" || v.Datasource != source) {
					t.Errorf("variable %s: all is %q, of %+v", v.Name, v.AllValue, v.Datasource)
				}
				if use := "$" + v.Name; v.Type == "query" && !slices.ContainsFunc(d.Panels, func(p panel) bool {
					return slices.ContainsFunc(p.Targets, func(q target) bool { return strings.Contains(q.Expr, use) })
				}) {
					t.Errorf("no query uses the variable %s", v.Name)
				}
			}
			for _, name := range named.FindAllStringSubmatch(d.text, -1) {
				if !slices.Contains(known, name[1]) {
					t.Errorf("no variable is called %s", name[0])
				}
			}
			for _, a := range d.Annotations.List {
				if a.Datasource != source {
					t.Errorf("annotation %s is of %+v", a.Name, a.Datasource)
				}
			}
			for _, p := range d.Panels {
				for _, q := range p.Targets {
					if p.Datasource != source || q.Datasource != source {
						t.Errorf("%q asks %+v", p.Title, q.Datasource)
					}
				}
			}
		})
	}
}

// Each series has the same color everywhere, one of those that the colour-blind can
// tell apart.
func TestColorsMeanTheSameEverywhere(t *testing.T) {
	colors := make(map[string]string)
	used := regexp.MustCompile(`"(?:fixedColor|color|iconColor|fill)": "([^"]+)"`)
	for _, d := range dashboards(t) {
		for _, c := range used.FindAllStringSubmatch(d.text, -1) {
			if !slices.Contains(palette, c[1]) && c[1] != "dash" {
				t.Errorf("%s: %s is not of the palette", d.file, c[1])
			}
		}
		for _, p := range d.Panels {
			for _, o := range p.FieldConfig.Overrides {
				name, color := o.Matcher.Options, o.color(t)
				if before, ok := colors[name]; ok && before != color {
					t.Errorf("%s: %q of %q is %s, and %s elsewhere", d.file, name, p.Title, color, before)
				}
				colors[name] = color
			}
		}
	}
}

// The compose file starts the version of Grafana that the dashboards are written for
// and checked against.
func TestGrafanaIsOneVersion(t *testing.T) {
	var schema struct {
		DevDependencies map[string]string `yaml:"devDependencies"`
	}
	readYAML(t, "grafana/schema/package.json", &schema)
	version := schema.DevDependencies["@grafana/schema"]
	if got, want := loadCompose(t).Services["grafana"].Image, "grafana/grafana:"+version; got != want {
		t.Errorf("%s is started, but %s is checked", got, want)
	}
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			if p.Type != "row" && p.PluginVersion != version {
				t.Errorf("%s, %q is of Grafana %q, not %s", d.file, p.Title, p.PluginVersion, version)
			}
		}
	}
}

// Grafana finds its provisioning files, and the dashboards find their data source.
func TestGrafanaIsProvisioned(t *testing.T) {
	var sources struct {
		Datasources []struct {
			Type, UID, URL string
			JSONData       struct {
				TimeInterval string `yaml:"timeInterval"`
			} `yaml:"jsonData"`
		}
	}
	readYAML(t, "grafana/provisioning/datasources/prometheus.yml", &sources)
	project := loadCompose(t)
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" {
		t.Fatalf("data sources: %+v", sources)
	}
	want := fmt.Sprintf("http://prometheus:%d", project.Services["prometheus"].Ports[0].Target)
	if got := sources.Datasources[0].URL; got != want {
		t.Errorf("the data comes from %s, want %s", got, want)
	}
	for _, d := range dashboards(t) {
		v := d.Templating.List[0]
		if v.Name != "datasource" || v.Current.Value != sources.Datasources[0].UID {
			t.Errorf("%s asks %q by default, not %q", d.file, v.Current.Value, sources.Datasources[0].UID)
		}
	}
	var prometheus struct {
		Global struct {
			ScrapeInterval string `yaml:"scrape_interval"`
		}
	}
	readYAML(t, "prometheus/prometheus.yml", &prometheus)
	// $__rate_interval is derived from it: if it is too short, rates have no data.
	if got, want := sources.Datasources[0].JSONData.TimeInterval, prometheus.Global.ScrapeInterval; got != want {
		t.Errorf("Grafana is told that Prometheus scrapes every %q, but it scrapes every %q", got, want)
	}
	var dashboards struct {
		Providers []struct {
			Type    string
			Options struct{ Path string }
		}
	}
	readYAML(t, "grafana/provisioning/dashboards/mailtally.yml", &dashboards)
	if len(dashboards.Providers) != 1 || dashboards.Providers[0].Type != "file" {
		t.Fatalf("providers of dashboards: %+v", dashboards)
	}
	grafana := project.Services["grafana"]
	path, home := dashboards.Providers[0].Options.Path, *grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	if folder := mountedAt(grafana, path); filepath.Dir(home) != path || !exists(filepath.Join(folder, filepath.Base(home))) {
		t.Errorf("dashboards are looked for in %s, where %q is mounted, and the home dashboard is %s", path, folder, home)
	}
}
