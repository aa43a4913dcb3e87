// The tests of what is deployed beside the binary: dashboards, rules, the live
// page, images. A module of its own, since they need a Prometheus, a browser and
// other things that the product's own tests do without. `.ci/run` installs those.
module github.com/mailtally/mailtally/deploy

go 1.26.0

replace (
	github.com/mailtally/mailtally => ..
	github.com/mailtally/mailtally/internal/bench => ../internal/bench
)

require (
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
	github.com/mailtally/mailtally/internal/bench v0.0.0
	github.com/prometheus/client_model v0.6.3
	github.com/prometheus/common v0.72.0
)

require (
	github.com/go-json-experiment/json v0.0.0-20260623181947-01eb4420fa68 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
