.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | column -t -s '	'

.PHONY: test
test: ## run every check of CI
	scripts/test

.PHONY: quick
quick: ## run the tests of every module, without the race detector
	go test work

.PHONY: fmt
fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

.PHONY: lint
lint: ## run vet, staticcheck and the modernizers over every module
	scripts/lint

.PHONY: tidy
tidy: ## tidy every module
	scripts/standalone -tidy

.PHONY: fuzz
fuzz: ## run every fuzz target for a minute
	scripts/fuzz 60s

.PHONY: helpdesk
helpdesk: ## serve the help desk example
	go run ./examples/helpdesk

.PHONY: bench
bench: ## measure presence, peers and floors side by side, in about an hour
	go run ./bench

.PHONY: bench-quick
bench-quick: ## run a smaller benchmark within two minutes
	go run ./bench -quick
