# Versions of tools that are run, not imported.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
DEPGUARD    := github.com/OpenPeeDeeP/depguard/v2/cmd/depguard@v2.3.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: dev
dev: ## run everything in one process, with simulated traffic
	go run ./cmd/mailtally dev

.PHONY: build
build: ## build the binary into dist/
	CGO_ENABLED=0 go build -trimpath -o dist/mailtally ./cmd/mailtally

.PHONY: test
test: ## run all tests, on their own PostgreSQL and Kafka
	go test ./...

.PHONY: race
race: ## run all tests with the race detector
	go test -race ./...

.PHONY: lint
lint: ## check format, vet, staticcheck and the import rule
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w $$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	cd internal/bench && go vet ./... && go run $(STATICCHECK) ./...
	cd deploy && go vet ./... && go run $(STATICCHECK) ./...
	go run $(DEPGUARD) ./...

.PHONY: vuln
vuln: ## check for known vulnerabilities (needs vuln.go.dev)
	go run $(GOVULNCHECK) ./...

.PHONY: fuzz
fuzz: ## fuzz each target for a minute
	@grep -roHE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed -E 's|/[^/]*:func | |' | sort | while read -r dir target; do \
		echo "$$target in $$dir"; go test "$$dir" -run '^$$' -fuzz "^$$target$$" -fuzztime 1m </dev/null || exit 1; \
	done

.PHONY: bench
bench: ## measure everything in its short form: ten minutes, with Apache Kafka (needs a JDK 17 and Maven)
	cd internal/bench && go run . $(if $(PARTS),-parts $(PARTS)) $(if $(DIR),-dir $(DIR))

.PHONY: bench-full
bench-full: ## measure everything at full length: an hour or two
	cd internal/bench && go run . -full $(if $(PARTS),-parts $(PARTS)) $(if $(DIR),-dir $(DIR))

.PHONY: screenshot
screenshot: ## take the README's screenshot of the live page (needs Chromium)
	cd deploy && go test -count=1 -run '^TestPage$$' -args -screenshot page.png
