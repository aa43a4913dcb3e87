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
