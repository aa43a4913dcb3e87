// The tests of what is deployed beside the binary: dashboards, rules, the live
// page, images. A module of its own, since they need a Prometheus, a browser and
// other things that the product's own tests do without. `.ci/run` installs those.
module github.com/mailtally/mailtally/deploy

go 1.26.0

replace (
	github.com/mailtally/mailtally => ..
	github.com/mailtally/mailtally/internal/bench => ../internal/bench
)

require github.com/mailtally/mailtally/internal/bench v0.0.0

require (
	github.com/chromedp/cdproto v0.159.0 // indirect
	github.com/chromedp/chromedp v0.23.0 // indirect
	github.com/chromedp/sysutil v1.1.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260623181947-01eb4420fa68 // indirect
	github.com/gobwas/httphead v0.1.0 // indirect
	github.com/gobwas/pool v0.2.1 // indirect
	github.com/gobwas/ws v1.4.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
