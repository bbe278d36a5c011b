module github.com/presence-go/presence/test/importer

go 1.26.0

require (
	github.com/presence-go/presence v0.1.0
	github.com/presence-go/presence/adapters/ws v0.1.0
)

require (
	github.com/benbjohnson/clock v1.3.5 // indirect
	golang.org/x/sync v0.24.0 // indirect
)
