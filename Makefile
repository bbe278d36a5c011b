.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | column -t -s '	'

.PHONY: test
test: ## everything that must hold, as in CI
	scripts/test

.PHONY: quick
quick: ## the tests of every module, without the race detector
	go test work

.PHONY: fmt
fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

.PHONY: lint
lint: ## vet, staticcheck and the modernizers, over every module
	scripts/lint

.PHONY: tidy
tidy: ## tidy every module
	scripts/standalone -tidy

.PHONY: fuzz
fuzz: ## a minute of every fuzz target
	scripts/fuzz 60s

.PHONY: helpdesk
helpdesk: ## serve the help desk example
	go run ./examples/helpdesk

.PHONY: bench
bench: ## ours, peers and floors measured side by side, in about an hour
	go run ./bench

.PHONY: bench-quick
bench-quick: ## the same, smaller, within two minutes
	go run ./bench -quick
