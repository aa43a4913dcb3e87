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
	github.com/google/uuid v1.6.0
	github.com/jackc/pgx/v5 v5.12.0
	github.com/mailtally/mailtally v0.0.0
	github.com/mailtally/mailtally/internal/bench v0.0.0
	github.com/prometheus/common v0.72.0
	go.yaml.in/yaml/v3 v3.0.6
)

require (
	github.com/fergusstrange/embedded-postgres v1.34.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/lib/pq v1.10.9 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/xi2/xz v0.0.0-20171230120015-48954b6210f8 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
